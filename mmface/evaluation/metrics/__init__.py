# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Metrics that configs can name."""

from mmface.evaluation.metrics.coco_box_metric import CocoBoxMetric
from mmface.evaluation.metrics.landmark_nme_metric import LandmarkNMEMetric
from mmface.evaluation.metrics.wider_face_metric import WiderFaceMetric

__all__ = ['CocoBoxMetric', 'LandmarkNMEMetric', 'WiderFaceMetric']
