# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Networks, heads, assigners and losses, registered in mmdet's registries."""

from mmface.models.backbones.mobilenet_v1 import MobileNetV1
from mmface.models.backbones.resnet_v1e import ResNetV1e
from mmface.models.data_preprocessors.face_data_preprocessor import FaceDataPreprocessor
from mmface.models.dense_heads.scrfd_head import SCRFDHead
from mmface.models.dense_heads.scrfd_module import SCRFDModule
from mmface.models.detectors.scrfd import SCRFD
from mmface.models.losses.dense_quality_focal_loss import DenseQualityFocalLoss
from mmface.models.task_modules.batched_atss_assigner import BatchedATSSAssigner

__all__ = [
    'SCRFD',
    'BatchedATSSAssigner',
    'DenseQualityFocalLoss',
    'FaceDataPreprocessor',
    'MobileNetV1',
    'ResNetV1e',
    'SCRFDHead',
    'SCRFDModule',
]
