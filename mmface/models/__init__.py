# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Networks, heads, assigners and losses, registered in mmdet's registries."""

from mmface.models.backbones.dla import DLA34
from mmface.models.backbones.mobilenet_v1 import MobileNetV1
from mmface.models.backbones.mobilenet_v2_taps import MobileNetV2Taps
from mmface.models.backbones.res2net_caffe import Res2NetCaffe
from mmface.models.backbones.resnet_v1e import ResNetV1e
from mmface.models.data_preprocessors.face_data_preprocessor import FaceDataPreprocessor
from mmface.models.dense_heads.centerface_head import CenterFaceHead
from mmface.models.dense_heads.centerface_module import CenterFaceModule
from mmface.models.dense_heads.centernet_one_stage_head import CenterNetOneStageHead
from mmface.models.dense_heads.centernet_proposal_head import CenterNetProposalHead
from mmface.models.dense_heads.scrfd_head import SCRFDHead
from mmface.models.dense_heads.scrfd_module import SCRFDModule
from mmface.models.detectors.centerface import CenterFace
from mmface.models.detectors.centernet2 import CenterNet2
from mmface.models.detectors.scrfd import SCRFD
from mmface.models.losses.binary_heatmap_focal_loss import BinaryHeatmapFocalLoss
from mmface.models.losses.dense_gaussian_focal_loss import DenseGaussianFocalLoss
from mmface.models.losses.dense_quality_focal_loss import DenseQualityFocalLoss
from mmface.models.losses.plus_one_giou_loss import PlusOneGIoULoss
from mmface.models.necks.bifpn import BiFPN
from mmface.models.necks.ida_up_neck import IDAUpNeck
from mmface.models.roi_heads.centernet2_roi_head import CenterNet2RoIHead
from mmface.models.roi_heads.fixed_shape_roi_extractor import FixedShapeRoIExtractor
from mmface.models.task_modules.batched_atss_assigner import BatchedATSSAssigner
from mmface.models.task_modules.centerface_coder import CenterFaceCoder
from mmface.models.task_modules.centernet_targets import CenterNetTargets
from mmface.models.task_modules.gaussian_targets import GaussianTargets
from mmface.models.task_modules.upper_clamped_delta_coder import UpperClampedDeltaCoder
from mmface.models.test_time_augs.face_tta_model import FaceTTAModel

__all__ = [
    'DLA34',
    'SCRFD',
    'BatchedATSSAssigner',
    'BiFPN',
    'BinaryHeatmapFocalLoss',
    'CenterFace',
    'CenterFaceCoder',
    'CenterFaceHead',
    'CenterFaceModule',
    'CenterNet2',
    'CenterNet2RoIHead',
    'CenterNetOneStageHead',
    'CenterNetProposalHead',
    'CenterNetTargets',
    'DenseGaussianFocalLoss',
    'DenseQualityFocalLoss',
    'FaceDataPreprocessor',
    'FaceTTAModel',
    'FixedShapeRoIExtractor',
    'GaussianTargets',
    'IDAUpNeck',
    'MobileNetV1',
    'MobileNetV2Taps',
    'PlusOneGIoULoss',
    'Res2NetCaffe',
    'ResNetV1e',
    'SCRFDHead',
    'SCRFDModule',
    'UpperClampedDeltaCoder',
]
