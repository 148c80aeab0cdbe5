# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Keypoint accuracy on detected faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from numpy.typing import NDArray

from mmface.evaluation.metrics.image_metric import ImageMetric
from mmface.evaluation.metrics.predictions import (
    detection_rows,
    image_name,
    to_array,
    xyxy_to_xywh,
)
from mmface.evaluation.nme import EYES_5, NORMALIZERS, keypoint_errors
from mmface.evaluation.wider_match import check_protocol
from mmface.structures import FIVE_KEYPOINTS


@dataclass(frozen=True)
class _ImageErrors:
    image: str
    errors: NDArray[np.float64]


@METRICS.register_module()
class KeypointNMEMetric(ImageMetric):
    """Normalised mean error of the keypoints of detected faces.

    Returns ``nme``, the mean over all labelled faces that a detection hits (NaN if there are
    none), and ``found``, the fraction of labelled faces that are hit. Faces without labelled
    keypoints are skipped. The ground truth comes from ``gt_instances``. Like the detections it
    must be in pixels of the original image, so a test pipeline must load the annotations after
    it has resized the image.

    Args:
        normalizer: ``interocular`` (distance of the eyes) or ``box`` (square root of the area
            of the labelled box). Default: ``interocular`` for five keypoints, or if ``eyes`` are
            given, ``box`` for any other number.
        eyes: Indices of the keypoints whose distance is ``interocular``. Default: the first two.
            The outer corners of the eyes are (36, 45) of the 68 keypoints of iBUG 300-W and
            (60, 72) of the 98 keypoints of WFLW.
        iou_thr: Minimum IoU of a hit.
        collect_device: Device on which the results of several ranks are collected.
        prefix: Prefix of ``/nme`` and ``/found``.
        collect_dir: Folder shared by the ranks, see ``mmengine.evaluator.BaseMetric``.

    Raises:
        ValueError: The normaliser is unknown or the threshold is invalid.
    """

    default_prefix = 'keypoint'

    def __init__(
        self,
        normalizer: str | None = None,
        eyes: Sequence[int] | None = None,
        iou_thr: float = 0.5,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if normalizer not in (None, *NORMALIZERS):
            raise ValueError(f'expected normalizer interocular or box, found {normalizer!r}')
        if eyes is not None and len(eyes) != 2:
            raise ValueError(f'eyes {tuple(eyes)}: expected the indices of two keypoints')
        check_protocol('float', iou_thr)
        self.normalizer = normalizer
        self.eyes = None if eyes is None else (int(eyes[0]), int(eyes[1]))
        self.iou_thr = iou_thr

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Compute the errors of the faces of a batch.

        Args:
            data_batch: Not used.
            data_samples: Samples or dicts with ``pred_instances`` (``bboxes``, ``scores``,
                ``keypoints``) and ``gt_instances`` (``bboxes``, ``keypoints`` with weights),
                boxes xyxy, all in pixels of the original image.
        """
        for sample in data_samples:
            found, labelled = sample.get('pred_instances'), sample.get('gt_instances')
            if 'keypoints' not in found:
                raise ValueError(
                    'KeypointNMEMetric needs pred_instances.keypoints; use it with a model that '
                    'predicts keypoints (the configs named *_bnkps)'
                )
            if labelled is None or 'keypoints' not in labelled:
                raise ValueError(
                    'KeypointNMEMetric needs gt_instances.keypoints; add LoadFaceAnnotations '
                    'after the resize in the test pipeline'
                )
            truth = to_array(labelled['keypoints'])
            if not truth.shape[1]:  # labels of boxes only
                self.results.append(_ImageErrors(image_name(sample), np.empty(0)))
                continue
            rows = detection_rows(found)
            points = to_array(found['keypoints'])[..., :2]
            finite = np.isfinite(rows).all(axis=1) & np.isfinite(points).all(axis=(1, 2))
            errors = keypoint_errors(
                rows[finite],
                points[finite],
                xyxy_to_xywh(to_array(labelled['bboxes'])),
                truth,
                self.iou_thr,
                self._choose_normalizer(truth.shape[1]),
                self.eyes or EYES_5,
            )
            self.results.append(_ImageErrors(image_name(sample), errors))

    def _choose_normalizer(self, count: int) -> str:
        if self.normalizer is not None:
            return self.normalizer
        return 'interocular' if self.eyes is not None or count == len(FIVE_KEYPOINTS) else 'box'

    def compute_metrics(self, results: list[_ImageErrors]) -> dict[str, float]:
        """Average over all faces; each image counts once."""
        by_image = {record.image: record.errors for record in results}
        errors = np.concatenate([np.empty(0), *by_image.values()])
        hit = ~np.isnan(errors)
        nan = float('nan')
        return {
            'nme': float(errors[hit].mean()) if hit.any() else nan,
            'found': float(hit.mean()) if len(errors) else nan,
        }
