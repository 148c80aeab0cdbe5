# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A hook that records what a training did; imported by the runs under test."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


def _digest(tensors) -> str:
    """Return a hash of the values; tensors on the device are copied to the host."""
    content = hashlib.sha256()
    for tensor in tensors:
        content.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return content.hexdigest()


@HOOKS.register_module()
class NpuProbe(Hook):
    """Write ``probe_<rank>.json`` to the work dir at the end of the training.

    Operators and waits are counted from the first to the last iteration. They include hooks and
    the loading of batches, but neither checkpoints nor validation.
    """

    priority = 'LOWEST'

    def before_train(self, runner) -> None:
        self.waits = contextlib.nullcontext()
        if get_device() == 'npu':
            import torch_npu

            assert torch_npu.IS_SIMULATED
            self.waits = torch_npu.waits.record_waits()
        self.counts: dict = {}
        self.iterations = 0

    def before_train_epoch(self, runner) -> None:
        if get_device() == 'npu':
            import torch_npu

            torch_npu._C.reset_counts()
        self.waits.__enter__()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.iterations += 1
        if not self.end_of_epoch(runner.train_dataloader, batch_idx):
            return
        self.waits.__exit__(None, None, None)
        for wait, count in getattr(self.waits, 'counts', {}).items():
            self.counts[wait] = self.counts.get(wait, 0) + count

    def after_train(self, runner) -> None:
        wrapper = runner.optim_wrapper
        params = [p for group in wrapper.optimizer.param_groups for p in group['params']]
        model = getattr(runner.model, 'module', runner.model)
        ops = {}
        if get_device() == 'npu':
            import torch_npu

            ops = torch_npu._C.op_counts()
        note = {
            'device': str(params[0].device),
            'wrapper': type(wrapper).__name__,
            'optimizer': type(wrapper.optimizer).__name__,
            'iterations': self.iterations,
            'ops': ops,
            'waits': [[*wait, count] for wait, count in self.counts.items()],
            'model_dtypes': sorted({str(p.dtype) for p in model.parameters()}),
            'optimizer_dtypes': sorted({str(p.dtype) for p in params}),
            'model_sha': _digest(model.parameters()),
            'optimizer_sha': _digest(params),
        }
        path = Path(runner.work_dir) / f'probe_{runner.rank}.json'
        path.write_text(json.dumps(note, indent=1))
