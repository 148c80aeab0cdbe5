# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Validation on every rank with the buffers that rank 0 saves."""

from __future__ import annotations

from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import broadcast, is_distributed
from mmengine.hooks import Hook


@HOOKS.register_module()
class BroadcastBuffersHook(Hook):
    """Copy the buffers of rank 0 to all ranks before validation.

    The batch norm statistics of the ranks differ, because they see different images. The
    checkpoint holds those of rank 0. The accuracy logged in training is that of the checkpoint
    only if all ranks validate with them. The training step uses no running statistics and is
    not changed.
    """

    priority = 'NORMAL'

    def before_val_epoch(self, runner: Any) -> None:
        """Broadcast every buffer of the model."""
        if is_distributed():
            for buffer in runner.model.buffers():
                broadcast(buffer, src=0)
