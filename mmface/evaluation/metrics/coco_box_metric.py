# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""COCO's average precision during training and testing."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS

from mmface.evaluation.metrics.outputs import Outputs
from mmface.utils.files import write_text

NAMES = ('bbox_mAP', 'bbox_mAP_50', 'bbox_mAP_75', 'bbox_mAP_s', 'bbox_mAP_m', 'bbox_mAP_l')


def _quickest_metric() -> type[CocoMetric]:
    """Return mmdet's metric with faster-coco-eval if both have it, else with pycocotools."""
    if importlib.util.find_spec('faster_coco_eval') is None:
        return CocoMetric
    import mmdet.evaluation.metrics

    return getattr(mmdet.evaluation.metrics, 'FasterCocoMetric', CocoMetric)


@METRICS.register_module()
class CocoBoxMetric(_quickest_metric()):  # type: ignore[misc]
    """AP of bounding boxes as COCO defines it, rounded to three digits.

    faster-coco-eval computes it if it is installed, otherwise pycocotools. Without any detection
    the AP is 0. For an object size that does not occur it is -1.

    Args:
        ann_file: COCO's JSON with the ground truth. Default: the labels of the data set, which
            must give ``instances`` to the samples, as ``WiderFaceDataset`` does.
        out_dir: Folder for ``metrics.json``, written by rank 0. By default no file is written.
        **kwargs: Arguments of mmdet's ``CocoMetric``.

    Raises:
        FileNotFoundError: The ground truth does not exist.
    """

    def __init__(
        self, ann_file: str | None = None, out_dir: str | None = None, **kwargs: Any
    ) -> None:
        if ann_file is not None and not Path(ann_file).is_file():
            raise FileNotFoundError(
                f'the ground truth {ann_file} does not exist. Check the data path: COCO has it in '
                'annotations/, and tools/data/make_toy.py coco makes a small dataset'
            )
        super().__init__(ann_file=ann_file, metric='bbox', **kwargs)
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.outputs = Outputs()

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Evaluate the collected images."""
        # mmdet returns nothing if nothing was detected.
        found = super().compute_metrics(results) or dict.fromkeys(NAMES, 0.0)
        if self.out_dir is not None:
            text = json.dumps({'images': len(results), 'coco': dict(found)}, indent=2) + '\n'
            self.outputs.write(self.out_dir / 'metrics.json', lambda path: write_text(path, text))
        return found
