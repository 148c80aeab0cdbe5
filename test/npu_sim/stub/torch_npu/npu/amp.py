# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""``torch.npu.amp``: autocast, and the scaler with the ways of torch_npu's own."""

from __future__ import annotations

import torch


class autocast(torch.autocast):
    """``torch.autocast('npu')``, in float16 unless told otherwise."""

    def __init__(self, enabled=True, dtype=torch.float16, cache_enabled=True) -> None:
        super().__init__('npu', dtype=dtype, enabled=enabled, cache_enabled=cache_enabled)


class GradScaler(torch.amp.GradScaler):
    """A scaler that differs from PyTorch's as torch_npu's does.

    * ``dynamic=False``: gradients are not checked, no step is skipped, the scale stays.
    * Gradients of fused optimizers are taken from their combined memory.
    * The number of steps since the last change of the scale is read in every ``update``.
    """

    def __init__(
        self,
        init_scale=2.0**16,
        growth_factor=2.0,
        backoff_factor=0.5,
        growth_interval=2000,
        dynamic=True,
        enabled=True,
    ) -> None:
        super().__init__('npu', init_scale, growth_factor, backoff_factor, growth_interval, enabled)
        self._dynamic = dynamic
        self._has_overflow = False

    def _unscale_grads_(self, optimizer, inv_scale, found_inf, allow_fp16):
        if hasattr(optimizer, 'is_fused_optimizer'):
            if not optimizer.is_params_grads_combined:
                optimizer._maybe_init_combined_params_and_grads()
            by_dtype = [
                [grads] for grads in optimizer.grads_all_group_combined if grads is not None
            ]
        else:
            found: dict[torch.dtype, list[torch.Tensor]] = {}
            for group in optimizer.param_groups:
                for param in group['params']:
                    if param.grad is None:
                        continue
                    if param.grad.dtype == torch.float16 and not allow_fp16:
                        raise TypeError('Attempting to unscale FP16 gradients.')
                    found.setdefault(param.grad.dtype, []).append(param.grad)
            by_dtype = list(found.values())
        with torch.no_grad():
            for grads in by_dtype:
                if self._dynamic:
                    torch._amp_foreach_non_finite_check_and_unscale_(grads, found_inf, inv_scale)
                    if found_inf.item() > 0:
                        self._has_overflow = True
                else:
                    for grad in grads:
                        grad.mul_(inv_scale)
        return {found_inf.device: found_inf}

    def _maybe_opt_step(self, optimizer, optimizer_state, *args, **kwargs):
        if not self._dynamic:
            return optimizer.step(*args, **kwargs)
        return super()._maybe_opt_step(optimizer, optimizer_state, *args, **kwargs)

    def update(self, new_scale=None) -> None:
        if not self._enabled:
            return
        scale, growth_tracker = self._check_scale_growth_tracker('update')
        if new_scale is not None:
            self._scale = scale.new_full((), float(new_scale))
        elif self._dynamic and self._has_overflow:
            scale.mul_(self._backoff_factor)
            growth_tracker.zero_()
        elif self._dynamic:
            growth_tracker.add_(1)
            if growth_tracker.item() == self._growth_interval:
                scale.mul_(self._growth_factor)
                growth_tracker.zero_()
        self._per_optimizer_states.clear()
        self._has_overflow = False

    def state_dict(self):
        state = super().state_dict()
        return {**state, 'dynamic': self._dynamic} if self._enabled else state

    def load_state_dict(self, state_dict) -> None:
        super().load_state_dict(state_dict)
        if self._enabled:
            self._dynamic = state_dict['dynamic']
