# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Mixed precision with half-precision weights and float32 masters (O2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from torch import nn

from mmface.engine.master_weights import half_type


@OPTIM_WRAPPERS.register_module()
class O2OptimWrapper(OptimWrapper):
    """The O2 level of apex, reimplemented: half-precision weights, float32 masters, a loss scale.

    ``FaceRunner`` casts the model before it is wrapped for several ranks (see ``cast_to_half``).
    Here the masters replace the half-precision parameters in the optimizer. Every step scales the
    loss, adds up the gradients in float32 on the masters, and unscales, checks and clips them.
    Then the optimizer updates the masters, and the weights are rounded from them.

    Differences from apex: a step with an infinite or NaN gradient is skipped and counted, with a
    static scale too. Group and layer norm stay float32 unless ``half_norms``. Gradients are
    accumulated in float32, so ranks exchange them in every iteration.

    The masters are in the checkpoint's ``state_dict``, the scale and the counter in its
    ``optimizer``, so a resumed run equals the uninterrupted one. Runs in float32 and O2 can
    continue each other's checkpoints.

    Args:
        optimizer: Built over the parameters of a model that was cast.
        loss_scale: 'dynamic' (starts at 2**16, doubles after 2,000 steps without overflow,
            halves after an overflow), a number for a static scale, or arguments of
            ``GradScaler``.
        dtype: 'float16' or 'bfloat16'. ``FaceRunner`` reads it for the cast.
        half_norms: Whether to cast group, layer and instance norm too, as apex does.
            ``FaceRunner`` reads it for the cast.
        kwargs: Arguments of ``OptimWrapper``.

    Raises:
        ValueError: ``dtype`` or ``loss_scale`` is invalid, or the model was not cast.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        loss_scale: str | float | dict[str, Any] = 'dynamic',
        dtype: str = 'float16',
        half_norms: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, **kwargs)
        self.pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
        for group in optimizer.param_groups:
            self.pairs += [(p, p.master) for p in group['params'] if hasattr(p, 'master')]
            group['params'] = [getattr(param, 'master', param) for param in group['params']]
        if not self.pairs or self.pairs[0][0].dtype != half_type(dtype):
            raise ValueError(
                f'O2OptimWrapper needs a model with {dtype} weights: train with FaceRunner '
                "(runner_type='FaceRunner'), which casts it, or call cast_to_half before DDP"
            )
        self.loss_scaler, self.static_scale = _build_scaler(loss_scale)
        self._skipped = torch.zeros((), device=self.pairs[0][1].device)

    @property
    def skipped_steps(self) -> int:
        """Number of steps skipped because of an overflow. Reading it waits for the device."""
        return int(self._skipped)

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Compute gradients of the scaled loss and add them to those of the masters."""
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1
        halves, fulls = [], []
        for param, master in self.pairs:
            if param.grad is not None:
                if master.grad is None:
                    master.grad = torch.zeros_like(master)
                halves.append(param.grad)
                fulls.append(master.grad)
                param.grad = None
        torch._foreach_add_(fulls, halves)

    def step(self, **kwargs: Any) -> None:
        """Update the masters and the weights, unless a gradient overflowed."""
        self.loss_scaler.unscale_(self.optimizer)
        if self.clip_grad_kwargs:
            self._clip_grad()
        for found in self.loss_scaler._found_inf_per_device(self.optimizer).values():
            # Infinity reaches all ranks with the gradients. But NPUs that saturate use the
            # overflow register of a single card.
            all_reduce(found, op='max')
            self._skipped += found.reshape(())
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self.static_scale)
        weights, masters = zip(*self.pairs, strict=True)
        with torch.no_grad():
            torch._foreach_copy_(weights, masters)

    def zero_grad(self, **kwargs: Any) -> None:
        """Set the gradients to zero in place, as fused NPU optimizers require."""
        kwargs.setdefault('set_to_none', False)
        self.optimizer.zero_grad(**kwargs)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Exchange gradients in every iteration, because masters add up those of all ranks."""
        yield

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer and the scaler, and the number of skipped steps."""
        state = super().state_dict()
        state['loss_scaler'] = self.loss_scaler.state_dict()
        state['skipped_steps'] = self.skipped_steps
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; one of another precision starts with the configured scale."""
        state_dict = dict(state_dict)
        self._skipped.fill_(state_dict.pop('skipped_steps', 0))
        scaler = state_dict.pop('loss_scaler', None)
        if scaler:
            self.loss_scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)


def _build_scaler(loss_scale: str | float | dict[str, Any]) -> tuple[Any, float | None]:
    """Build the device's scaler. Return it and the static scale, None for a dynamic one."""
    static = None
    if isinstance(loss_scale, (int, float)) and loss_scale > 0:
        static = float(loss_scale)
        options: dict[str, Any] = {'init_scale': static}
    elif isinstance(loss_scale, dict):
        options = dict(loss_scale)
    elif loss_scale == 'dynamic':
        options = {}
    else:
        raise ValueError(
            "loss_scale must be 'dynamic', a positive number or a dict of GradScaler's "
            f'arguments, not {loss_scale!r}'
        )
    # torch's own scaler on every device: torch_npu's does not check with a static scale.
    return torch.amp.GradScaler(get_device(), **options), static
