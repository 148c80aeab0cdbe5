# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Runner, loops, optimizer wrappers and hooks. Importing this registers them with mmdet."""

from mmface.engine.autocast_optim_wrapper import AutocastOptimWrapper
from mmface.engine.face_runner import FaceRunner
from mmface.engine.hooks.bad_images_hook import BadImagesHook
from mmface.engine.hooks.bounded_history_hook import BoundedHistoryHook
from mmface.engine.hooks.broadcast_buffers_hook import BroadcastBuffersHook
from mmface.engine.hooks.class_count_hook import ClassCountHook
from mmface.engine.hooks.face_early_stopping_hook import FaceEarlyStoppingHook
from mmface.engine.hooks.fuse_conv_bn_hook import FuseConvBNHook
from mmface.engine.hooks.keypoint_count_hook import KeypointCountHook
from mmface.engine.hooks.late_runtime_info_hook import LateRuntimeInfoHook
from mmface.engine.hooks.loss_scale_hook import LossScaleHook
from mmface.engine.hooks.master_ema_hook import MasterEMAHook
from mmface.engine.hooks.non_finite_hook import NonFiniteHook
from mmface.engine.hooks.norm_statistics_hook import NormStatisticsHook
from mmface.engine.hooks.preemption_hook import PreemptionHook
from mmface.engine.hooks.rank_watch_hook import RankWatchHook
from mmface.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from mmface.engine.hooks.throughput_hook import ThroughputHook
from mmface.engine.o2_optim_wrapper import O2OptimWrapper
from mmface.engine.pretrained_init import CheckedPretrainedInit
from mmface.engine.resumable_epoch_train_loop import ResumableEpochTrainLoop
from mmface.engine.resumable_iter_train_loop import ResumableIterTrainLoop

__all__ = [
    'AutocastOptimWrapper',
    'BadImagesHook',
    'BoundedHistoryHook',
    'BroadcastBuffersHook',
    'CheckedPretrainedInit',
    'ClassCountHook',
    'FaceEarlyStoppingHook',
    'FaceRunner',
    'FuseConvBNHook',
    'KeypointCountHook',
    'LateRuntimeInfoHook',
    'LossScaleHook',
    'MasterEMAHook',
    'NonFiniteHook',
    'NormStatisticsHook',
    'O2OptimWrapper',
    'PreemptionHook',
    'RankWatchHook',
    'ResumableEpochTrainLoop',
    'ResumableIterTrainLoop',
    'SafeCheckpointHook',
    'ThroughputHook',
]
