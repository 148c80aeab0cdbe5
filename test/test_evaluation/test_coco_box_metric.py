# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""COCO's AP through the evaluator, for cases with a known value."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData

from mmface.datasets import WiderFaceDataset
from mmface.evaluation.metrics import CocoBoxMetric
from mmface.toys.coco import CATEGORIES, CLASSES, make_toy_coco


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    return make_toy_coco(tmp_path_factory.mktemp('toy'), num_train=0, num_val=8)


@pytest.fixture(scope='module')
def table(toy):
    return json.loads((toy / 'annotations/instances_val2017.json').read_text())


def _evaluate(toy, predictions, kind=CocoBoxMetric, **kwargs):
    """Evaluate ``predictions``: image id -> rows x, y, w, h, score, label."""
    metric = kind(str(toy / 'annotations/instances_val2017.json'), **kwargs)
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = dict(classes=CLASSES)
    for number, rows in predictions.items():
        rows = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
        boxes = torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1)
        found = InstanceData(bboxes=boxes, scores=rows[:, 4], labels=rows[:, 5].long())
        sample = dict(pred_instances=found, img_id=number, ori_shape=(240, 320))
        evaluator.process(data_batch=None, data_samples=[sample])
    return evaluator.evaluate(len(predictions))


def _truth(table, shift=0.0, crowds=False):
    labels = {category: label for label, category in enumerate(CATEGORIES)}
    found = {image['id']: [] for image in table['images']}
    for row in table['annotations']:
        if not row['iscrowd'] or crowds:
            x, y, w, h = row['bbox']
            found[row['image_id']].append([x + shift * w, y, w, h, 0.9, labels[row['category_id']]])
    return found


def test_truth__is_perfect_and_written(toy, table, tmp_path):
    found = _evaluate(toy, _truth(table), out_dir=str(tmp_path))
    assert found['coco/bbox_mAP'] == found['coco/bbox_mAP_50'] == 1
    written = json.loads((tmp_path / 'metrics.json').read_text())
    assert written['images'] == 8
    assert written['coco'] == {key.removeprefix('coco/'): value for key, value in found.items()}


def test_shifted_boxes__count_up_to_their_overlap(toy, table):
    """Check a shift by a quarter of the width: IoU 0.6 hits at 0.5, 0.55 and (rounded) 0.6."""
    found = _evaluate(toy, _truth(table, shift=0.24))
    assert found['coco/bbox_mAP_50'] == 1
    assert found['coco/bbox_mAP_75'] == 0
    assert found['coco/bbox_mAP'] == pytest.approx(0.3, abs=0.01)


def test_detections_on_a_crowd__are_no_errors(toy, table):
    found = _evaluate(toy, _truth(table, crowds=True))
    assert found['coco/bbox_mAP'] == 1


def test_no_detection__is_zero(toy, table, tmp_path):
    found = _evaluate(toy, {number: [] for number in _truth(table)}, out_dir=str(tmp_path))
    assert set(found.values()) == {0}
    assert json.loads((tmp_path / 'metrics.json').read_text())['coco']['bbox_mAP'] == 0


def test_missing_ground_truth():
    with pytest.raises(FileNotFoundError, match=r'the ground truth /no/gt\.json does not exist'):
        CocoBoxMetric('/no/gt.json')


def test_faster_coco_eval__is_used_and_gives_the_same(toy, table):
    pytest.importorskip('faster_coco_eval')
    assert CocoBoxMetric.__base__ is not CocoMetric
    predictions = _truth(table, shift=0.2)
    assert _evaluate(toy, predictions) == _evaluate(toy, predictions, kind=CocoMetric)


@pytest.mark.parametrize('kind', [CocoBoxMetric, CocoMetric])
def test_own_labels__are_the_ground_truth_of_the_data_set(kind, tmp_path, mmdet_scope):
    """Without a file of ground truth, the samples of ``WiderFaceDataset`` have it."""
    boxes = [[10, 10, 50, 60], [60, 40, 90, 90]]
    lines = []
    for name in 'ab':
        cv2.imwrite(str(tmp_path / f'{name}.png'), np.zeros((100, 100, 3), np.uint8))
        lines += [f'# {name}.png 100 100', *(' '.join(map(str, box)) for box in boxes)]
    lines += ['# c.png 100 100', '1 1 30 30 1', '5 5 5 9']  # ignored, and without area
    cv2.imwrite(str(tmp_path / 'c.png'), np.zeros((100, 100, 3), np.uint8))
    (tmp_path / 'labelv2.txt').write_text('\n'.join(lines))
    steps = ('LoadFaceImage', 'LoadFaceAnnotations', 'PackFaceInputs')
    dataset = WiderFaceDataset(
        ann_file=str(tmp_path / 'labelv2.txt'),
        data_prefix=dict(img_path=str(tmp_path)),
        test_mode=True,
        pipeline=[dict(type=name) for name in steps],
    )

    def evaluate(chosen: list) -> dict:
        evaluator = Evaluator([kind()])
        evaluator.dataset_meta = dataset.metainfo
        for index, rows in enumerate(chosen):
            sample = dataset[index]['data_samples']
            found = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
            labels, scores = torch.zeros(len(found)).long(), torch.linspace(0.9, 0.8, len(found))
            sample.pred_instances = InstanceData(bboxes=found, scores=scores, labels=labels)
            evaluator.process(data_batch=None, data_samples=[sample])
        return evaluator.evaluate(len(dataset))

    # What hits an ignored face is no error.
    found = evaluate([boxes, boxes, [[1, 1, 30, 30]]])
    assert found['coco/bbox_mAP'] == found['coco/bbox_mAP_m'] == found['coco/bbox_mAP_50'] == 1
    assert evaluate([boxes, boxes[:1], []])['coco/bbox_mAP_50'] == pytest.approx(0.75, abs=0.01)
