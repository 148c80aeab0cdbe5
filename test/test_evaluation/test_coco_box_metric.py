# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""COCO's AP through the evaluator, for cases with a known value."""

from __future__ import annotations

import importlib.util
import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
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


@pytest.fixture(params=['pycocotools', 'faster_coco_eval'])
def package(request, monkeypatch):
    """Let one of the two packages compute the AP, whether or not the other is installed."""
    find = importlib.util.find_spec
    if find(request.param) is None:
        pytest.skip(f'{request.param} is not installed (pip install "mmface[eval]")')
    other = {'pycocotools': 'faster_coco_eval'}.get(request.param)
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: None if name == other else find(name)
    )
    return request.param


def _evaluate(toy, predictions, classes=CLASSES, **kwargs):
    """Evaluate ``predictions``: image id -> rows x, y, w, h, score, label."""
    file = toy / 'annotations/instances_val2017.json' if toy.is_dir() else toy
    evaluator = Evaluator([CocoBoxMetric(str(file), **kwargs)])
    evaluator.dataset_meta = dict(classes=classes)
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


def test_truth__is_perfect_and_written(package, toy, table, tmp_path):
    found = _evaluate(toy, _truth(table), out_dir=str(tmp_path))
    assert found['coco/bbox_mAP'] == found['coco/bbox_mAP_50'] == 1
    written = json.loads((tmp_path / 'metrics.json').read_text())
    assert (written['images'], written['max_dets']) == (8, 1000)
    assert written['coco'] == {key.removeprefix('coco/'): value for key, value in found.items()}


def test_shifted_boxes__count_up_to_their_overlap(package, toy, table):
    """Check a shift by a quarter of the width: IoU 0.6 hits at 0.5, 0.55 and (rounded) 0.6."""
    found = _evaluate(toy, _truth(table, shift=0.24))
    assert found['coco/bbox_mAP_50'] == 1
    assert found['coco/bbox_mAP_75'] == 0
    assert found['coco/bbox_mAP'] == pytest.approx(0.3, abs=0.01)


def test_detections_on_a_crowd__are_no_errors(package, toy, table):
    found = _evaluate(toy, _truth(table, crowds=True))
    assert found['coco/bbox_mAP'] == 1


def test_no_detection__is_zero(package, toy, table, tmp_path):
    found = _evaluate(toy, {number: [] for number in _truth(table)}, out_dir=str(tmp_path))
    assert set(found.values()) == {0}
    assert json.loads((tmp_path / 'metrics.json').read_text())['coco']['bbox_mAP'] == 0


def test_missing_ground_truth():
    with pytest.raises(FileNotFoundError, match=r'the ground truth /no/gt\.json does not exist'):
        CocoBoxMetric('/no/gt.json')


def crowd(tmp_path, count, classes=('face', 'hand')):
    """Write ground truth of one image with ``count`` boxes of 20 x 20 pixels in a grid.

    Returns:
        The file and the boxes x, y, w, h.
    """
    boxes = [[30 * (i % 40), 30 * (i // 40), 20, 20] for i in range(count)]
    annotations = [
        dict(id=n + 1, image_id=1, category_id=1, bbox=box, area=400, iscrowd=0)
        for n, box in enumerate(boxes)
    ]
    categories = [dict(id=n + 1, name=name) for n, name in enumerate(classes)]
    images = [dict(id=1, file_name='a.jpg', width=1200, height=1200)]
    table = dict(images=images, annotations=annotations, categories=categories)
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(table))
    return path, boxes


@pytest.fixture
def log(caplog):
    """Return the text of mmengine's log so far: ``log()``."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)


def test_more_than_a_hundred_faces__count_in_every_value(package, tmp_path, log):
    path, boxes = crowd(tmp_path, 150)
    found = _evaluate(path, {1: [[*box, 0.9, 0] for box in boxes]}, ('face', 'hand'))
    assert [found[f'coco/bbox_mAP{end}'] for end in ('', '_50', '_75', '_s')] == [1, 1, 1, 1]
    # Nothing is that large; the class without boxes does not count.
    assert [found[f'coco/bbox_mAP_{end}'] for end in 'ml'] == [-1, -1]
    assert 'at most 1000 detections an image and class' in log()
    assert package.replace('_', '-') in log()


def test_limit__cuts_every_value_and_is_told(package, tmp_path, log):
    path, boxes = crowd(tmp_path, 150)
    rows = [[*box, 0.9, 0] for box in boxes]
    found = _evaluate(path, {1: rows}, ('face', 'hand'), max_dets=100)
    # Recalls up to 100 / 150 of COCO's 101.
    assert {found[f'coco/bbox_mAP{end}'] for end in ('', '_50', '_75')} == {round(67 / 101, 3)}
    assert '50 detections beyond 100 an image and class do not count' in log()


def test_empty_ground_truth__has_no_value(package, tmp_path):
    path, _ = crowd(tmp_path, 0)
    for rows in ([], [[5, 5, 10, 10, 0.9, 1]]):
        assert set(_evaluate(path, {1: rows}, ('face', 'hand')).values()) == {-1}


def test_class_without_faces__does_not_count(package, tmp_path):
    path, boxes = crowd(tmp_path, 10)
    rows = [[*box, 0.9, 0] for box in boxes]
    alone = _evaluate(path, {1: rows}, ('face', 'hand'))
    assert _evaluate(path, {1: [*rows, [5, 5, 10, 10, 0.9, 1]]}, ('face', 'hand')) == alone


def test_order_of_ties__does_not_matter(package, tmp_path):
    path, boxes = crowd(tmp_path, 40)
    wrong = [[x + 400, y + 600, w, h] for x, y, w, h in boxes]
    rows = [[*box, 0.5, 0] for box in [*wrong[:20], *boxes, *wrong[20:]]]
    first = _evaluate(path, {1: rows}, ('face', 'hand'))
    assert 0 < first['coco/bbox_mAP'] < 1
    for seed in range(3):
        shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
        assert _evaluate(path, {1: shuffled}, ('face', 'hand')) == first


def test_max_dets__must_be_positive(toy):
    with pytest.raises(ValueError, match='max_dets 0: expected at least 1'):
        CocoBoxMetric(str(toy / 'annotations/instances_val2017.json'), max_dets=0)


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
