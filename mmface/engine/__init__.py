# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Runner, loops, optimizer wrappers and hooks; importing registers them with mmdet."""

from mmface.engine.autocast_optim_wrapper import AutocastOptimWrapper
from mmface.engine.face_runner import FaceRunner
from mmface.engine.hooks.broadcast_buffers_hook import BroadcastBuffersHook
from mmface.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from mmface.engine.resumable_epoch_train_loop import ResumableEpochTrainLoop

__all__ = [
    'AutocastOptimWrapper',
    'BroadcastBuffersHook',
    'FaceRunner',
    'ResumableEpochTrainLoop',
    'SafeCheckpointHook',
]
