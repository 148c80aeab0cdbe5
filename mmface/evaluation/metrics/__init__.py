# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Metrics that configs can name."""

from mmface.evaluation.metrics.coco_box_metric import CocoBoxMetric
from mmface.evaluation.metrics.keypoint_nme_metric import KeypointNMEMetric
from mmface.evaluation.metrics.wider_face_metric import WiderFaceMetric

__all__ = ['CocoBoxMetric', 'KeypointNMEMetric', 'WiderFaceMetric']
