# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A checkpoint hook that never loses the last good file."""

from __future__ import annotations

import math
from numbers import Real
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from mmface.engine.step_guard import weights_are_finite
from mmface.utils.files import write_text


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """``CheckpointHook`` that writes the new file before it removes the old one.

    mmengine removes the checkpoint to be replaced before it writes the new one, so a full disk
    leaves neither. ``FaceRunner`` writes files completely or not at all. With both, the newest
    good checkpoint always stays and ``last_checkpoint`` names it.

    Weights that are not all finite are not saved; this includes averaged weights (EMA). Metrics
    that are not finite are never the best.

    Args: see ``CheckpointHook``.
    """

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        if not weights_are_finite(runner):
            return
        expired = None
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                expired = self.keep_ckpt_ids.popleft()
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_text(Path(runner.work_dir) / 'last_checkpoint', self.last_ckpt)
        if expired is not None:
            self._remove(
                self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(expired))
            )

    def _save_best_checkpoint(self, runner: Any, metrics: dict[str, Any]) -> None:
        if not self.save_best or not weights_are_finite(runner):
            return
        # The parent class skips None.
        metrics = {key: value if _is_finite(value) else None for key, value in metrics.items()}
        # The parent class removes the best checkpoints that it has recorded before it writes. Here
        # the record is emptied first, and replaced files are removed afterwards.
        single = hasattr(self, 'best_ckpt_path')
        before = {'': self.best_ckpt_path} if single else dict(self.best_ckpt_path_dict)
        if single:
            self.best_ckpt_path = None
        else:
            self.best_ckpt_path_dict = dict.fromkeys(before)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            after = {'': self.best_ckpt_path} if single else self.best_ckpt_path_dict
            for key, old in before.items():
                if after.get(key) is None:
                    after[key] = old
            if single:
                self.best_ckpt_path = after['']
        for key, old in before.items():
            if old is not None and old != after[key]:
                self._remove(old)

    def _remove(self, path: str) -> None:
        if is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, Real) or math.isfinite(value)
