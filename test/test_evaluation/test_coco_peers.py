# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""COCO's AP of made detections: what mmface/evaluation/README.md says of each package."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from mmface.evaluation.metrics.coco_box_metric import CocoBoxMetric


class Case(NamedTuple):
    truth: list[list[float]]  # x, y, w, h
    crowd: list[int]
    found: list[tuple[list[float], float]]


GRID = [[40 * (i % 25), 40 * (i // 25), 30, 30] for i in range(150)]
FACES = [[0, 0, 100, 100], [200, 0, 100, 100]]
WRONG = [400, 0, 100, 100]
FOUND = [[10, 10, 100, 100], [150, 10, 100, 100], [300, 10, 100, 100], [600, 600, 100, 100]]
CASES = {
    'limit': Case(GRID, [0] * 150, [(box, 1 - i / 1000) for i, box in enumerate(GRID)]),
    'crowd': Case(
        [[0, 0, 500, 500], [600, 600, 100, 100]],
        [1, 0],
        [(box, 0.9 - i / 10) for i, box in enumerate(FOUND)],
    ),
    'empty': Case(GRID[:3], [0] * 3, []),
    'wrong first': Case(FACES, [0, 0], [(box, 0.5) for box in [WRONG, *FACES]]),
    'wrong last': Case(FACES, [0, 0], [(box, 0.5) for box in [*FACES, WRONG]]),
}
#: Results in the order of CASES; None: no value.
SEEN = {
    'pycocotools': (0.663, 1, None, 0.667, 1),
    'faster_coco_eval': (0.663, 1, 0, 0.667, 1),
    'torchmetrics': (0.663, 1, 0, 0.667, 1),
    'mmdet': (0.663, 1, None, 0.667, 1),
    'globox': (0.663, 0.126, 0, 0.667, 1),
    'mmface': (1, 1, 0, 1, 1),
}


def as_coco(case: Case) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return ground truth and results as COCO's JSON has them."""
    common = {'image_id': 1, 'category_id': 1}
    truth = {
        'images': [{'id': 1, 'file_name': 'a.jpg', 'width': 1200, 'height': 1000}],
        'categories': [{'id': 1, 'name': 'face'}],
        'annotations': [
            {'id': i, 'bbox': box, 'area': box[2] * box[3], 'iscrowd': crowd, **common}
            for i, (box, crowd) in enumerate(zip(case.truth, case.crowd, strict=True), 1)
        ],
    }
    return truth, [{'bbox': box, 'score': score, **common} for box, score in case.found]


def by_coco(case: Case, package: str) -> float | None:
    if package == 'pycocotools':
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval as Evaluator
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as Evaluator
    truth, found = as_coco(case)
    with contextlib.redirect_stdout(io.StringIO()):
        table = COCO()
        table.dataset = truth
        table.createIndex()
        try:
            evaluation = Evaluator(table, table.loadRes(found), 'bbox')
        except IndexError:
            return None
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def by_torchmetrics(case: Case, package: str) -> float:
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(box_format='xywh')
    boxes = torch.tensor([box for box, _ in case.found], dtype=torch.float).reshape(-1, 4)
    scores = torch.tensor([score for _, score in case.found])
    truth = torch.tensor(case.truth, dtype=torch.float)
    labels = [torch.zeros(len(rows), dtype=torch.long) for rows in (boxes, truth)]
    found = {'boxes': boxes, 'scores': scores, 'labels': labels[0]}
    metric.update(
        [found],
        [{'boxes': truth, 'labels': labels[1], 'iscrowd': torch.tensor(case.crowd)}],
    )
    return float(metric.compute()['map'])


def by_metric(case: Case, package: str) -> float | None:
    from mmdet.evaluation import CocoMetric

    metric = (CocoBoxMetric if package == 'mmface' else CocoMetric)()
    metric.dataset_meta = {'classes': ('face',)}
    boxes = np.array([*case.truth, *(box for box, _ in case.found)], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    truth, found = boxes[: len(case.truth)], boxes[len(case.truth) :]
    sample = {
        'img_id': 1,
        'ori_shape': (1000, 1200),
        'pred_instances': {
            'bboxes': torch.from_numpy(found),
            'scores': torch.tensor([score for _, score in case.found]),
            'labels': torch.zeros(len(found), dtype=torch.long),
        },
        'instances': [
            {'bbox': box.tolist(), 'bbox_label': 0, 'ignore_flag': crowd}
            for box, crowd in zip(truth, case.crowd, strict=True)
        ],
    }
    metric.process({}, [sample])
    return metric.evaluate(1).get('coco/bbox_mAP')


def by_globox(case: Case, package: str) -> float:
    from globox import AnnotationSet, COCOEvaluator

    for name, table in zip(('truth.json', 'found.json'), as_coco(case), strict=True):
        Path(name).write_text(json.dumps(table))
    found = AnnotationSet.from_coco_results(
        'found.json', id_to_label={1: 'face'}, id_to_imageid={1: 'a.jpg'}
    )
    truth = AnnotationSet.from_coco('truth.json')
    return float(COCOEvaluator(ground_truths=truth, predictions=found).ap())


RUNS = {
    'pycocotools': by_coco,
    'faster_coco_eval': by_coco,
    'torchmetrics': by_torchmetrics,
    'mmdet': by_metric,
    'globox': by_globox,
    'mmface': by_metric,
}


@pytest.mark.parametrize('package', SEEN)
def test_package__gives_the_ap_of_the_table(package, tmp_path, monkeypatch):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f'{package} is not installed: pip install "mmface[peers]"')
    monkeypatch.chdir(tmp_path)
    found = [RUNS[package](case, package) for case in CASES.values()]
    seen = SEEN[package]
    assert [None if ap is None else round(ap, 3) for ap in found] == list(seen)
