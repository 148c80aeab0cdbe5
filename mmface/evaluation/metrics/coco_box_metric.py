# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""COCO's average precision during training and testing."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from numpy.typing import NDArray

from mmface.evaluation.metrics.outputs import Outputs
from mmface.evaluation.metrics.predictions import detection_rows, to_array
from mmface.utils.files import write_text

#: Names of the results, each with its row of thresholds (``None``: their mean) and its sizes.
NAMES = {
    'bbox_mAP': (None, 'all'),
    'bbox_mAP_50': (0.5, 'all'),
    'bbox_mAP_75': (0.75, 'all'),
    'bbox_mAP_s': (None, 'small'),
    'bbox_mAP_m': (None, 'medium'),
    'bbox_mAP_l': (None, 'large'),
}
#: More than the faces in any image of WIDER FACE val. COCO's own limit is 100.
MAX_DETS = 1000


# Not a named tuple: mmengine's collection of results turns those into plain ones.
@dataclass(frozen=True)
class _Found:
    """Detections of one image.

    Attributes:
        image: Its id.
        rows: (n, 5) x, y, w, h, score.
        labels: (n,) indices of the classes.
        truth: The labels of the image, if the ground truth is not a file: for each object
            ``bbox`` (x1, y1, x2, y2), ``bbox_label`` and ``ignore_flag``.
    """

    image: Any
    rows: NDArray[np.float64]
    labels: NDArray[np.int64]
    truth: list[dict[str, Any]] | None = None


@METRICS.register_module()
class CocoBoxMetric(BaseMetric):
    """AP of bounding boxes as COCO defines it, rounded to three digits, with one limit.

    faster-coco-eval computes it if it is installed, otherwise pycocotools. Their summaries cut at
    100 detections for some of the values and at another number for others, in different ways: 150
    perfect detections in one image get 0.663 from one and 1.0 from the other. Here all values come
    from their tables of precision at ``max_dets``, so both give the same.

    Boxes of the ground truth with ``iscrowd`` are ignored, with all detections on them; a field
    ``ignore`` does nothing, because both packages overwrite it. Classes without a box in the ground
    truth do not count. A value without any box of its kind is -1. Detections of equal score and
    image count in the order of their coordinates, whatever order the model gives them in.

    Args:
        ann_file: COCO's JSON with the ground truth. Default: the labels of the data set, which
            must give ``instances`` to the samples, as ``WiderFaceDataset`` does.
        out_dir: Folder for ``metrics.json``, written by rank 0. By default no file is written.
        max_dets: Detections of an image and class that count, highest score first.
        collect_device: Device on which the results of several ranks are collected.
        prefix: Prefix of the names of the results.
        collect_dir: Folder shared by the ranks, see ``mmengine.evaluator.BaseMetric``.

    Raises:
        FileNotFoundError: The ground truth does not exist.
        ValueError: ``max_dets`` is not positive.
    """

    default_prefix = 'coco'

    def __init__(
        self,
        ann_file: str | None = None,
        out_dir: str | None = None,
        max_dets: int = MAX_DETS,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        if ann_file is not None and not Path(ann_file).is_file():
            raise FileNotFoundError(
                f'the ground truth {ann_file} does not exist. Check the data path: COCO has it in '
                'annotations/, and tools/data/make_toy.py coco makes a small dataset'
            )
        if max_dets < 1:
            raise ValueError(f'max_dets {max_dets}: expected at least 1')
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self.truth = None
        if ann_file is not None:
            with _quiet():
                self.truth = COCO(ann_file)
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.max_dets = max_dets
        self.outputs = Outputs()

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Keep the detections of a batch.

        Args:
            data_batch: Not used.
            data_samples: Samples or dicts with ``pred_instances`` (``bboxes`` xyxy in
                pixels of the original image, ``scores``, ``labels``) and ``img_id``; without
                ``ann_file`` also ``instances``.

        Raises:
            ValueError: There is no ``ann_file``, and the samples have no ``instances``.
        """
        for sample in data_samples:
            found = sample.get('pred_instances')
            rows = detection_rows(found)
            labels = to_array(found['labels']).astype(np.int64)
            # Ties by coordinates; the evaluators keep the order of equal scores.
            order = np.lexsort([*rows[:, 3::-1].T, -rows[:, 4]])
            truth = None if self.truth is not None else sample.get('instances')
            if self.truth is None and truth is None:
                raise ValueError(
                    'without ann_file, samples need instances: expected a data set such as '
                    'WiderFaceDataset with LoadFaceAnnotations in its test pipeline; found samples '
                    f'without, the first is {sample.get("img_id")}'
                )
            self.results.append(_Found(sample.get('img_id'), rows[order], labels[order], truth))

    def compute_metrics(self, results: list[_Found]) -> dict[str, float]:
        """Evaluate the collected images, log a table and write the file."""
        classes = (self.dataset_meta or {}).get('classes')
        truth = self.truth
        if truth is None:
            truth, results = _truth_of(results, classes or ('face',))
        # Labels are the positions of the classes in the file, as in mmdet's data set.
        ids = truth.get_cat_ids(cat_names=classes or [])
        values, package = evaluate(truth, _to_annotations(results, ids), ids, self.max_dets)
        self._report(values, package, results)
        if self.out_dir is not None:
            table = {'images': len(results), 'max_dets': self.max_dets, 'coco': values}
            text = json.dumps(table, indent=2) + '\n'
            self.outputs.write(self.out_dir / 'metrics.json', lambda path: write_text(path, text))
        return values

    def _report(self, values: dict[str, float], package: str, results: list[_Found]) -> None:
        names = ''.join(f'{name.removeprefix("bbox_"):>8}' for name in values)
        numbers = ''.join(f'{value:8.3f}' for value in values.values())
        print_log(
            f'AP of boxes, at most {self.max_dets} detections an image and class ({package})\n'
            f'{names}\n{numbers}',
            logger='current',
        )
        left = sum(
            int(np.maximum(np.bincount(found.labels) - self.max_dets, 0).sum())
            for found in results
            if len(found.labels)
        )
        if left:
            print_log(
                f'{left} detections beyond {self.max_dets} an image and class do not count',
                logger='current',
                level=logging.WARNING,
            )


def evaluate(
    truth: COCO, annotations: list[dict[str, Any]], classes: Sequence[int], max_dets: int
) -> tuple[dict[str, float], str]:
    """Evaluate detections with faster-coco-eval if it is installed, else with pycocotools.

    Args:
        truth: The ground truth.
        annotations: Detections as COCO's annotations; may be empty.
        classes: Ids of the classes that count.
        max_dets: Detections of an image and class that count.

    Returns:
        The values of ``NAMES``, rounded to three digits, and the package with its version.
    """
    if importlib.util.find_spec('faster_coco_eval') is None:
        from pycocotools.coco import COCO as Table
        from pycocotools.cocoeval import COCOeval as Evaluator

        package = 'pycocotools'
    else:
        from faster_coco_eval import COCO as Table
        from faster_coco_eval import COCOeval_faster as Evaluator

        package = 'faster-coco-eval'
    tables = []
    with _quiet():
        # loadRes of pycocotools fails without detections.
        for content in (truth.dataset, {**truth.dataset, 'annotations': annotations}):
            table = Table()
            table.dataset = content
            table.createIndex()
            tables.append(table)
        evaluator = Evaluator(*tables, 'bbox')
        evaluator.params.catIds = list(classes)
        evaluator.params.maxDets = [max_dets]
        evaluator.evaluate()
        evaluator.accumulate()
    # (thresholds, recalls, classes, sizes, limits); -1 where there is no ground truth
    precision = np.asarray(evaluator.eval['precision'])[..., -1]
    thresholds, sizes = evaluator.params.iouThrs, evaluator.params.areaRngLbl
    values = {}
    for name, (threshold, size) in NAMES.items():
        chosen = slice(None) if threshold is None else np.isclose(thresholds, threshold)
        part = precision[chosen][..., sizes.index(size)]
        part = part[part > -1]
        values[name] = round(float(part.mean()), 3) if part.size else -1.0
    return values, f'{package} {version(package)}'


def _truth_of(results: Sequence[_Found], classes: Sequence[str]) -> tuple[COCO, list[_Found]]:
    """Return the ground truth of the samples, and the detections with the ids of its images."""
    rows: list[dict[str, Any]] = []
    for image, each in enumerate(results, 1):
        for item in each.truth or []:
            x1, y1, x2, y2 = (float(v) for v in item['bbox'])
            rows.append(
                dict(
                    id=len(rows) + 1,
                    image_id=image,
                    category_id=int(item['bbox_label']) + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=int(item.get('ignore_flag', 0)),
                )
            )
    truth = COCO()
    truth.dataset = dict(
        images=[dict(id=image) for image in range(1, len(results) + 1)],
        categories=[dict(id=number, name=name) for number, name in enumerate(classes, 1)],
        annotations=rows,
    )
    with _quiet():
        truth.createIndex()
    return truth, [replace(each, image=image) for image, each in enumerate(results, 1)]


def _to_annotations(results: Sequence[_Found], ids: Sequence[int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for each in results:
        for row, label in zip(each.rows.tolist(), each.labels.tolist(), strict=True):
            x, y, w, h, score = row
            found.append(
                dict(
                    id=len(found) + 1,
                    image_id=each.image,
                    category_id=ids[label],
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    score=score,
                )
            )
    return found


def _quiet() -> contextlib.redirect_stdout[io.StringIO]:
    """Hide what the evaluators print."""
    return contextlib.redirect_stdout(io.StringIO())
