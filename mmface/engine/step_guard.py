# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Detect training steps whose loss is not finite, and make them harmless on the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.hooks import EMAHook
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

#: Integers as wide as the floats. NaN times 0 is NaN, but its bits times 0 are 0.
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class StepGuard:
    """Protect weights and statistics from a loss that is not finite, without host syncs.

    A step is bad if a part of its loss is NaN or infinite, or if a running statistic of a norm
    became NaN or infinite. Then:

    * The running statistics get the values they had before the step.
    * The gradients become NaN on this rank, and through their exchange on all ranks. A loss
      scaler then skips the step.
    * Without a loss scaler, the optimizer gets gradients of zero. Nothing of the step reaches the
      weights, which change by momentum and decay only. The same happens if the loss is finite
      but a gradient is not.

    A good step is not changed by a single bit.

    Args:
        model: The detector itself, not its wrapper for several ranks. It must be on its device.
        optimizer: Optimizer of a training without a loss scaler. Pass None if there is a scaler,
            which skips steps itself.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        norms = [module for module in model.modules() if isinstance(module, _NormBase)]
        self._norms = [norm for norm in norms if norm.running_mean is not None]
        # All running statistics in one tensor: before the forward pass, and after it.
        self._kept: Tensor | None = None
        self._after: Tensor | None = None
        self._parts: tuple[Tensor, ...] = ()  # of _after, one for each statistic
        device = next(model.parameters()).device
        self._one = torch.ones((), device=device)
        self._nan = torch.full((), torch.nan, device=device)
        self._status: Tensor | None = None
        #: Names of the values in ``status``, known after the first step.
        self.names: tuple[str, ...] = ()
        self._handles: list[Any] = [
            model.register_forward_pre_hook(self._before_forward),
            model.register_forward_hook(self._after_forward),
        ]
        if optimizer is not None:
            self._handles.append(optimizer.register_step_pre_hook(self._before_update))

    @torch.no_grad()
    def end_step(self) -> Tensor | None:
        """Restore the running statistics after a bad step. Call it after the update.

        Returns:
            Status of the step, float32, on the device, or None without a step. It holds the parts
            of the loss in the order of ``names``, and two values that are above 0 if a running
            statistic or a gradient was not finite.
        """
        status, self._status = self._status, None
        if status is not None:
            # Not before the backward pass, which checks that the statistics are unchanged.
            bad = ~status[:-2].isfinite().all() | (status[-2] > 0)
            self._restore_statistics(bad)
        return status

    def remove(self) -> None:
        """Remove all hooks from the model and the optimizer."""
        for handle in self._handles:
            handle.remove()

    def _statistics(self) -> list[Tensor]:
        return [
            value
            for norm in self._norms
            for value in (norm.running_mean, norm.running_var)
            if value is not None
        ]

    def _restore_statistics(self, bad: Tensor) -> None:
        if self._kept is None or self._after is None:
            return
        statistics = self._statistics()
        torch.cat(statistics, out=self._after)
        torch.where(bad, self._kept, self._after, out=self._after)
        torch._foreach_copy_(statistics, self._parts)

    @torch.no_grad()
    def _before_forward(self, model: nn.Module, _: Any) -> None:
        # A pass in inference mode is no step, and its tensors could not be written later.
        if not model.training or not self._norms or torch.is_inference_mode_enabled():
            return
        statistics = self._statistics()
        if self._kept is None:
            self._kept = torch.cat(statistics)
            self._after = torch.empty_like(self._kept)
            self._parts = self._after.split([len(value) for value in statistics])
        else:
            torch.cat(statistics, out=self._kept)

    def _after_forward(self, model: nn.Module, _: Any, losses: Any) -> Any:
        if not model.training or not isinstance(losses, dict):  # not mode='loss'
            return None
        with torch.no_grad():
            parts = {name: _total(value) for name, value in losses.items() if 'loss' in name}
            if not parts:
                return None
            values = torch.stack(list(parts.values()))
            flags = self._one.new_zeros(2)
            if self._after is not None:
                torch.cat(self._statistics(), out=self._after)
                flags[0] = ~self._after.isfinite().all()
            bad = ~values.isfinite().all() | (flags[0] > 0)
            self.names = tuple(parts)
            self._status = torch.cat([values, flags])
            factor = torch.where(bad, self._nan, self._one)
        name = next(iter(parts))
        return {**losses, name: _scaled(losses[name], factor)}

    @torch.no_grad()
    def _before_update(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients: dict[torch.dtype, list[Tensor]] = {}  # in order
        for group in optimizer.param_groups:
            for param in group['params']:
                if (gradient := param.grad) is not None:
                    gradients.setdefault(gradient.dtype, []).append(gradient)
        spoilt = _any_not_finite(gradients.values(), self._one)
        _multiply_bits(gradients.values(), spoilt == 0)
        if self._status is not None:
            self._status[-1] = spoilt


def _total(loss: Tensor | Sequence[Tensor]) -> Tensor:
    if isinstance(loss, Tensor):
        return loss.float().mean() if loss.dim() else loss.float()
    return torch.stack([_total(item) for item in loss]).sum()


def _scaled(loss: Any, factor: Tensor) -> Any:
    if isinstance(loss, Tensor):
        return loss * factor.to(loss.dtype)
    return [_scaled(loss[0], factor), *loss[1:]]


def _any_not_finite(groups: Iterable[list[Tensor]], one: Tensor) -> Tensor:
    """Return a float32 scalar on the device that is above 0 if a value is not finite.

    Args:
        groups: Lists of tensors of one type.
        one: The number 1, float32, on the device.
    """
    found = torch.zeros_like(one)
    for group in groups:
        # The operator of the scalers: it reads all tensors at once, and times 1 changes nothing.
        torch._amp_foreach_non_finite_check_and_unscale_(group, found, one)
    return found


def _multiply_bits(groups: Iterable[list[Tensor]], keep: Tensor) -> None:
    """Set tensors to zero where ``keep`` is False, also where they are NaN; else keep them."""
    for group in groups:
        kind = BITS[group[0].element_size()]
        torch._foreach_mul_([tensor.view(kind) for tensor in group], keep.to(kind))


def not_finite_weights(models: Sequence[nn.Module]) -> list[str]:
    """Return the names of parameters and buffers of models that contain NaN or infinity.

    The function waits for the device once.
    """
    states = [model.state_dict() for model in models]
    floats = [
        (name, value)
        for state in states
        for name, value in state.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    ]
    if not floats:
        return []
    finite = torch.stack([value.isfinite().all() for _, value in floats]).tolist()
    return [name for (name, _), good in zip(floats, finite, strict=True) if not good]


def weights_are_finite(runner: Any) -> bool:
    """Return whether all weights of a run, averaged ones included, are finite; log it if not."""
    models = [getattr(runner.model, 'module', runner.model)]
    models += [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    bad = not_finite_weights(models)
    if bad:
        runner.logger.error(
            f'no checkpoint is saved: {len(bad)} of the weights are not finite, the first is '
            f'{bad[0]}; those saved before stay'
        )
    return not bad
