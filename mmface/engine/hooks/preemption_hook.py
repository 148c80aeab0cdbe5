# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""One checkpoint and a clean end when the scheduler takes the machine back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as torch_dist
from mmdet.registry import HOOKS
from mmengine.dist import is_distributed
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop

from mmface.engine.resumable_iter_train_loop import validation_due
from mmface.engine.step_guard import weights_are_finite
from mmface.utils.cli import PREEMPTED
from mmface.utils.files import write_text
from mmface.utils.stop_signals import (
    catch_stop_signals,
    ignore_stop_signals,
    stop_reason,
)

#: Entry of the message hub: the checkpoint of the last stop, removed once it is not needed.
CHECKPOINT_INFO = 'preemption_ckpt'


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save a checkpoint and end with status 75 on SIGTERM, SIGUSR1 or after ``max_minutes``.

    The current iteration is finished first, and so is a validation. Then ``iter_N.pth`` is
    written, unless the checkpoint hook has just written it. ``last_checkpoint`` names it, and
    ``SystemExit(75)`` is raised on all ranks. The resumable loops continue from there bit for
    bit. A second signal, more than a second after the first, ends the process without a
    checkpoint.

    It is enough if one rank gets the signal. To agree on the iteration, the ranks add up a flag
    over gloo, on the CPU, whatever the device is. The sum is started at the end of each iteration
    and read at the end of the next. So no device is waited for, and hosts only wait for a host
    that is a whole iteration behind. Therefore several ranks stop one iteration later than a
    single rank. Before a validation and at the end there is no such delay: they wait for the sum.

    With accumulated gradients, the run stops at the next multiple of ``accumulative_counts``.

    ``FaceRunner`` adds this hook to every run.

    Args:
        max_minutes: Minutes from the building of the runner to the stop; None for no limit.

    Raises:
        ValueError: ``max_minutes`` is not above 0.
    """

    # After the checkpoint hook and all other hooks.
    priority = 'LOWEST'

    def __init__(self, max_minutes: float | None = None) -> None:
        if max_minutes is not None and not max_minutes > 0:
            raise ValueError(f'max_minutes must be above 0, not {max_minutes}')
        self.max_minutes = max_minutes
        self._started = time.monotonic()
        self._group: Any = None
        self._sum: tuple[Any, torch.Tensor] | None = None

    def before_train(self, runner: Any) -> None:
        """Start to catch the signals."""
        catch_stop_signals()
        if is_distributed() and self._group is None:
            self._group = torch_dist.new_group(backend='gloo')
        self._sum = None

    def after_train_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Stop here if a rank was asked to stop."""
        if (runner.iter + 1) % getattr(runner.optim_wrapper, '_accumulative_counts', 1):
            return
        if self._agree(wait=_pause_follows(runner, batch_idx)):
            self._stop(runner)

    def after_train(self, runner: Any) -> None:
        """Remove the checkpoint of an earlier stop."""
        self._read_sum()
        old = runner.message_hub.get_info(CHECKPOINT_INFO)
        if old and runner.rank == 0 and _last_checkpoint(runner) != Path(old).name:
            Path(old).unlink(missing_ok=True)

    def _wanted(self) -> bool:
        return self._late() or stop_reason() is not None

    def _late(self) -> bool:
        elapsed = (time.monotonic() - self._started) / 60
        return self.max_minutes is not None and elapsed >= self.max_minutes

    def _agree(self, wait: bool) -> bool:
        """Return whether all ranks stop at this iteration; the result is the same on all."""
        if self._group is None:
            return self._wanted()
        agreed = self._read_sum()
        flag = torch.tensor([int(self._wanted())])
        self._sum = torch_dist.all_reduce(flag, group=self._group, async_op=True), flag
        return (wait and self._read_sum()) or agreed

    def _read_sum(self) -> bool:
        if self._sum is None:
            return False
        work, flag = self._sum
        self._sum = None
        work.wait()
        return bool(flag.item())

    def _stop(self, runner: Any) -> None:
        self._read_sum()
        late = f'{self.max_minutes:g} minutes are over' if self._late() else 'asked by another rank'
        why = stop_reason() or late
        path = self._save(runner) or 'the checkpoint before'
        runner.logger.info(
            f'Stopped ({why}) after iteration {runner.iter + 1}; continue from {path} with '
            '--resume (resume=True in a config)'
        )
        runner.visualizer.close()
        if self._group is not None:
            torch_dist.barrier(self._group)  # the checkpoint is complete before a rank ends
        ignore_stop_signals()
        raise SystemExit(PREEMPTED)

    def _save(self, runner: Any) -> Path | None:
        """Write the checkpoint unless it exists, and remove that of the last stop.

        Returns:
            Its path; None if the weights are not finite.
        """
        if not weights_are_finite(runner):
            return None
        hub = runner.message_hub
        folder = next(
            (h.out_dir for h in runner.hooks if isinstance(h, CheckpointHook) and h.out_dir),
            runner.work_dir,
        )
        path = Path(folder) / f'iter_{runner.iter + 1}.pth'
        old = hub.get_info(CHECKPOINT_INFO)
        if hub.get_info('last_ckpt') == str(path):
            return path
        hub.update_info(CHECKPOINT_INFO, str(path))
        runner.save_checkpoint(folder, path.name, by_epoch=False)
        if runner.rank == 0:
            write_text(Path(runner.work_dir) / 'last_checkpoint', str(path))
            if old and old != str(path):
                Path(old).unlink(missing_ok=True)
        return path


def _last_checkpoint(runner: Any) -> str:
    note = Path(runner.work_dir) / 'last_checkpoint'
    return Path(note.read_text(encoding='utf-8').strip()).name if note.is_file() else ''


def _pause_follows(runner: Any, batch_idx: int) -> bool:
    """Return whether the training ends or validates after this iteration."""
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        return batch_idx + 1 == len(runner.train_dataloader)
    done = runner.iter + 1
    return done == runner.max_iters or validation_due(runner.train_loop, done)
