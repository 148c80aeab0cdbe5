# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The metrics inside mmengine: real data samples, a real evaluator, two real ranks."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

import mmface.evaluation.metrics  # noqa: F401 registers
from mmface.evaluation.wider_ap import evaluate_rows
from mmface.evaluation.wider_txt import read_predictions


def sample(name: str, rows, dtype=torch.float32, **fields) -> DetDataSample:
    rows = torch.as_tensor(np.asarray(rows, float).reshape(-1, 5))
    boxes = torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:4]], dim=1)
    item = DetDataSample(metainfo={'img_id': name, 'img_path': f'/data/images/{name}'})
    item.pred_instances = InstanceData(
        bboxes=boxes.to(dtype),
        scores=rows[:, 4].to(dtype),
        labels=torch.zeros(len(rows), dtype=torch.long),
    )
    for key, value in fields.items():
        setattr(item, key, value)
    return item


@pytest.fixture
def gt_dir(small_gt, write_mats, tmp_path) -> str:
    return str(write_mats(small_gt, tmp_path / 'gt'))


@pytest.fixture
def logged(monkeypatch):
    """Return messages of the current logger as ``(level, text)``; mmengine's does not propagate."""
    messages: list[tuple[int, str]] = []

    class Keep(logging.Handler):
        def emit(self, record):
            messages.append((record.levelno, record.getMessage()))

    logger = MMLogger.get_current_instance()
    handler = Keep()
    logger.addHandler(handler)
    monkeypatch.setattr(logger, 'level', logging.INFO)  # another test may have raised it
    yield messages
    logger.removeHandler(handler)


def evaluate(samples, size=None, **config) -> dict[str, float]:
    metric = METRICS.build({'type': 'WiderFaceMetric', **config})
    evaluator = Evaluator(metric)
    for item in samples:
        evaluator.process([item])
    return evaluator.evaluate(size or len(samples))


@pytest.mark.parametrize('protocol', ['float', 'official'])
def test_wider_face_metric__equals_evaluation_of_files(
    small_gt, small_rows, gt_dir, tmp_path, protocol
):
    samples = [sample(f'{name}.jpg', rows, torch.float64) for name, rows in small_rows.items()]
    got = evaluate(samples, gt_dir=gt_dir, protocol=protocol, save_txt=str(tmp_path / 'txt'))
    expected = evaluate_rows(small_gt, small_rows, protocol).ap
    assert got == {f'wider_face/{subset}': ap for subset, ap in expected.items()}
    found = read_predictions(tmp_path / 'txt', small_gt)
    assert evaluate_rows(small_gt, found.rows, protocol).ap == expected


def test_wider_face_metric__takes_half_precision_and_plain_dicts(small_gt, small_rows, gt_dir):
    samples = [sample(f'{name}.jpg', rows, torch.bfloat16) for name, rows in small_rows.items()]
    metric = METRICS.build({'type': 'WiderFaceMetric', 'gt_dir': gt_dir})
    metric.process(None, [item.to_dict() for item in samples])
    assert metric.evaluate(4)['wider_face/hard'] > 0.5


def test_wider_face_metric__drops_bad_rows_and_repeated_images_with_one_warning(
    small_gt, small_rows, gt_dir, tmp_path, logged
):
    samples = [sample(f'{name}.jpg', rows) for name, rows in small_rows.items()]
    bad = small_rows['0--A/0_A_2'].copy()
    bad = np.vstack([bad, [1, 2, 3, 4, np.nan], [1, np.inf, 3, 4, 0.9], [1, 2, 3, 4, np.inf]])
    samples[1] = sample('0--A/0_A_2.jpg', bad)
    samples += [samples[1], samples[0], sample('9--Z/unknown.jpg', bad)]
    # As with a padding sampler: the size of the dataset is 4.
    got = evaluate(samples, size=4, gt_dir=gt_dir, out_dir=str(tmp_path / 'out'))
    expected = evaluate_rows(small_gt, small_rows).ap
    assert got == pytest.approx({f'wider_face/{subset}': ap for subset, ap in expected.items()})
    warnings = [text for level, text in logged if level >= logging.WARNING]
    assert len(warnings) == 1
    assert '3 detections with NaN' in warnings[0]
    assert '1 predicted images are not in the ground truth' in warnings[0]
    assert any('easy' in text and '0.7750' in text for _, text in logged)
    written = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert written['ap'] == pytest.approx(expected)
    assert (written['dropped_rows'], written['extra_images'], written['partial']) == (3, 1, False)
    assert (tmp_path / 'out' / 'pr_curve.png').stat().st_size > 5000


def test_wider_face_metric__missing_images_count_as_missed(small_gt, small_rows, gt_dir, logged):
    names = list(small_rows)[:2]
    got = evaluate([sample(f'{name}.jpg', small_rows[name]) for name in names], gt_dir=gt_dir)
    expected = evaluate_rows(small_gt, {name: small_rows[name] for name in names}).ap
    assert got['wider_face/hard'] == pytest.approx(expected['hard'])
    assert any('2 of 4 images (2 events) have no predictions' in text for _, text in logged)


def test_wider_face_metric__part_leaves_other_images_out_quietly(
    small_gt, small_rows, gt_dir, tmp_path, logged
):
    part = tmp_path / 'part.txt'
    part.write_text('0--A/0_A_2.jpg\n2--C/2_C_1.jpg\n')
    samples = [sample(f'{name}.jpg', rows) for name, rows in small_rows.items()]
    got = evaluate(samples, gt_dir=gt_dir, part=str(part))
    assert got['wider_face/hard'] == pytest.approx(0.5)
    assert evaluate(samples, gt_dir=gt_dir, part=['0--A/0_A_2', '2--C/2_C_1']) == got
    assert not [text for level, text in logged if level >= logging.WARNING]
    assert any('(partial)' in text for _, text in logged)


def test_wider_face_metric__writes_beside_the_log_file(small_rows, gt_dir, tmp_path):
    # A separate logger: the run of another test may have left its log file on the current one.
    logger = MMLogger.get_instance(tmp_path.name, log_file=str(tmp_path / 'run.log'))
    try:
        evaluate([sample('2--C/2_C_1.jpg', small_rows['2--C/2_C_1'])], gt_dir=gt_dir)
    finally:
        del MMLogger._instance_dict[tmp_path.name]
        for handler in logger.handlers:
            handler.close()
    assert (tmp_path / 'metrics.json').is_file()
    assert (tmp_path / 'pr_curve.png').is_file()


def test_wider_face_metric__goes_on_when_files_cannot_be_written(
    small_gt, small_rows, gt_dir, tmp_path, logged
):
    # A file at the path of the folder has the effect of a full disk.
    blocked = tmp_path / 'blocked'
    blocked.write_text('')
    samples = [sample(f'{name}.jpg', rows) for name, rows in small_rows.items()]
    got = evaluate(samples, gt_dir=gt_dir, out_dir=str(blocked), save_txt=str(blocked))
    assert got['wider_face/hard'] == pytest.approx(evaluate_rows(small_gt, small_rows).ap['hard'])
    errors = [text for level, text in logged if level == logging.ERROR]
    assert len(errors) == 3  # for the first prediction file, the numbers, and the curve


def test_wider_face_metric__wrong_arguments_fail_before_any_inference(gt_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match='ground truth folder'):
        METRICS.build({'type': 'WiderFaceMetric', 'gt_dir': str(tmp_path / 'none')})
    with pytest.raises(ValueError, match=r'always 0\.5'):
        METRICS.build(
            {'type': 'WiderFaceMetric', 'gt_dir': gt_dir, 'protocol': 'official', 'iou_thr': 0.4}
        )
    with pytest.raises(ValueError, match='not in the ground truth'):
        METRICS.build({'type': 'WiderFaceMetric', 'gt_dir': gt_dir, 'part': ['0--A/none.jpg']})


RANK_SCRIPT = """
import json, sys
import torch.distributed as dist
from pathlib import Path
from mmface.evaluation.metrics import WiderFaceMetric

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
metric = WiderFaceMetric(
    gt_dir=str(folder / 'gt'), out_dir=str(folder / 'out'), save_txt=str(folder / 'txt'),
    collect_dir=str(folder / 'collect'))
samples = json.loads((folder / 'samples.json').read_text())
# Contiguous blocks; the first image again at the end of the last: no rank order, five images.
for name, boxes, scores in (samples[:3], samples[3:] + samples[:1])[rank]:
    metric.process(None, [dict(img_id=name, pred_instances=dict(bboxes=boxes, scores=scores))])
metrics = metric.evaluate(len(samples))
dist.barrier()  # if a rank ended early, the other would lose its connection
dist.destroy_process_group()
print(json.dumps(metrics))
"""


def test_wider_face_metric__two_ranks_give_what_one_gives(
    small_gt, small_rows, write_mats, tmp_path, repo: Path
):
    write_mats(small_gt, tmp_path / 'gt')
    small_rows['9--Z/unknown'] = np.array([[0, 0, 5, 5, 0.5]])
    samples = []
    for name, rows in small_rows.items():
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        samples.append([f'{name}.jpg', boxes.tolist(), rows[:, 4].tolist()])
    (tmp_path / 'samples.json').write_text(json.dumps(samples))
    script = tmp_path / 'rank.py'
    script.write_text(f'import sys; sys.path.insert(0, {str(repo)!r})\n{RANK_SCRIPT}')
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=600) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    expected = evaluate_rows(small_gt, small_rows).ap
    for out, _ in outputs:
        got = json.loads(out.splitlines()[-1])
        assert got == pytest.approx({f'wider_face/{subset}': ap for subset, ap in expected.items()})
    assert json.loads((tmp_path / 'out' / 'metrics.json').read_text())['detections'] == 11
    assert len(list((tmp_path / 'txt').glob('*/*.txt'))) == 5


# ---- keypoints ----------------------------------------------------------------------------

POINTS = torch.tensor([[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]], dtype=torch.float32)


def keypoint_sample(name: str, shift: float, weight: float = 1.0) -> DetDataSample:
    item = sample(name, [[0, 0, 40, 40, 0.9], [100, 100, 9, 9, 0.8], [0, 0, 9, 9, np.nan]])
    found = torch.cat([POINTS + torch.tensor([0, shift]), torch.ones(5, 1)], dim=1)
    item.pred_instances.keypoints = torch.stack([found, found, found])
    label = torch.cat([POINTS, torch.full((5, 1), weight)], dim=1)
    boxes = torch.tensor([[0.0, 0, 40, 40], [300, 300, 340, 340]])
    item.gt_instances = InstanceData(bboxes=boxes, keypoints=torch.stack([label, label + 300]))
    item.gt_instances.keypoints[1, :, 2] = weight
    return item


def test_keypoint_nme_metric__averages_found_faces_and_counts_images_once():
    metric = METRICS.build({'type': 'KeypointNMEMetric'})
    evaluator = Evaluator(metric)
    items = [
        keypoint_sample('e/1.jpg', 2.0),
        keypoint_sample('e/2.jpg', 4.0),
        keypoint_sample('e/3.jpg', 50.0, weight=0.0),
        keypoint_sample('e/2.jpg', 4.0),
    ]
    for item in items:
        evaluator.process([item])
    got = evaluator.evaluate(3)
    # Eyes 20 apart: 0.1 and 0.2; the second face of each image is not found.
    assert got == pytest.approx({'keypoint/nme': 0.15, 'keypoint/found': 0.5})


def test_keypoint_nme_metric__without_labels_gives_nan():
    metric = METRICS.build({'type': 'KeypointNMEMetric', 'normalizer': 'box'})
    metric.process(None, [keypoint_sample('e/1.jpg', 2.0, weight=0.0)])
    assert all(np.isnan(value) for value in metric.evaluate(1).values())


def test_keypoint_nme_metric__other_numbers_of_keypoints_use_the_box():
    """The distance is 4 px, the side of the box 40 px, the distance of the given eyes 28 px."""

    def nme(count: int, **options) -> float:
        item = keypoint_sample('e/1.jpg', 4.0)
        for part in (item.pred_instances, item.gt_instances):
            part.keypoints = torch.cat([part.keypoints] * 2, dim=1)[:, :count]
        metric = METRICS.build({'type': 'KeypointNMEMetric', **options})
        metric.process(None, [item])
        return metric.evaluate(1)['keypoint/nme']

    assert nme(5) == pytest.approx(4 / 20)
    for count in (4, 9):
        assert nme(count) == pytest.approx(4 / 40)
    assert nme(9, eyes=(0, 4)) == pytest.approx(4 / np.hypot(18, 20))
    assert np.isnan(nme(0))
    with pytest.raises(ValueError, match='indices of two keypoints'):
        nme(5, eyes=(0, 1, 2))


def test_keypoint_nme_metric__says_what_is_missing(small_rows):
    metric = METRICS.build({'type': 'KeypointNMEMetric'})
    with pytest.raises(ValueError, match='use it with a model that predicts keypoints'):
        metric.process(None, [sample('e/1.jpg', small_rows['0--A/0_A_1'])])
    item = keypoint_sample('e/1.jpg', 2.0)
    del item.gt_instances
    with pytest.raises(ValueError, match='add LoadFaceAnnotations'):
        metric.process(None, [item])
    with pytest.raises(ValueError, match='interocular or box'):
        METRICS.build({'type': 'KeypointNMEMetric', 'normalizer': 'nose'})
