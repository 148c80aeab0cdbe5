# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Fused optimizers that bite where torch_npu's do.

They own the memory of parameters, gradients and states: at the first step (or ``zero_grad``, or
unscaling) all parameters that have a gradient move into one block per type, and so do
the gradients; from then on only the blocks are read and written. Consequences, all as in
torch_npu 2.13:

* a parameter without a gradient at that moment is never updated;
* a gradient, a parameter's ``data`` or a state that is replaced later is not noticed;
* ``zero_grad(set_to_none=True)`` raises, and gradients are set to zero by default;
* parameters are float32 or float16, contiguous, and on the NPU.

What they cannot show is the speed.
"""

from __future__ import annotations

import math

import torch
from torch.optim import Optimizer

_DTYPES = (torch.float32, torch.float16)


def _combine(tensors: list[torch.Tensor]) -> torch.Tensor | None:
    """Move tensors into one block of memory, in which they become views."""
    if not tensors:
        return None
    for tensor in tensors:
        if tensor.device.type != 'npu':
            raise ValueError(f'Tensors to combine must be on NPU, got {tensor.device.type}.')
        if not tensor.is_contiguous():
            raise RuntimeError('Tensors to combine must be contiguous.')
    block = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    for tensor, part in zip(tensors, block.split([t.numel() for t in tensors]), strict=True):
        tensor.data = part.view(tensor.shape)
    return block


class NpuFusedOptimizerBase(Optimizer):
    """What the fused optimizers share.

    The names without an underscore are torch_npu's; its scaler reads them.
    """

    #: Names of the states that have the shape of the parameter.
    _states: tuple[str, ...] = ()

    def __init__(self, params, defaults) -> None:
        super().__init__(params, defaults)
        self.is_fused_optimizer = True
        self.is_params_grads_combined = False
        self.grads_all_group_combined: list[torch.Tensor | None] = [None, None]
        self._parts: list = []  # group, its parameters, and blocks of them and their gradients
        self._blocks_of_states: list[dict[str, torch.Tensor]] = []

    def _maybe_init_combined_params_and_grads(self) -> None:
        if self.is_params_grads_combined:
            return
        moved: list[tuple[dict, torch.dtype, list[torch.nn.Parameter]]] = []
        for group in self.param_groups:
            with_grad = [param for param in group['params'] if param.grad is not None]
            for param in with_grad:
                if param.dtype not in _DTYPES:
                    raise TypeError(
                        "Fused optimizer's parameters must be either float32 or float16, but "
                        f'received {param.dtype}'
                    )
            moved += [(group, t, [p for p in with_grad if p.dtype == t]) for t in _DTYPES]
        for place, dtype in enumerate(_DTYPES):
            mine = [(group, params) for group, t, params in moved if t == dtype and params]
            flat = [param for _, params in mine for param in params]
            weights = _combine(flat)
            grads = _combine([param.grad for param in flat])
            if weights is None or grads is None:
                continue
            self.grads_all_group_combined[place] = grads
            sizes = [sum(p.numel() for p in params) for _, params in mine]
            for (group, params), w, g in zip(
                mine, weights.split(sizes), grads.split(sizes), strict=True
            ):
                self._parts.append((group, params, w, g))
            self.is_params_grads_combined = True

    def _maybe_init_combined_states(self) -> None:
        if self._blocks_of_states:
            return
        for group, params, _, _ in self._parts:
            for param in params:
                self._init_state(group, param)
            self._blocks_of_states.append(
                {
                    name: _combine([self.state[param][name] for param in params])
                    for name in self._states
                    if name in self.state[params[0]]
                }
            )

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else closure()
        self._maybe_init_combined_params_and_grads()
        self._maybe_init_combined_states()
        for (group, params, weights, grads), states in zip(
            self._parts, self._blocks_of_states, strict=True
        ):
            self._update(group, params, weights, grads, states)
        return loss

    @torch.no_grad()
    def zero_grad(self, set_to_none: bool = False) -> None:
        if set_to_none:
            raise ValueError('set_to_none is not supported in fused optimizers')
        self._maybe_init_combined_params_and_grads()
        if not self.is_params_grads_combined:
            super().zero_grad(set_to_none=False)
        for grads in self.grads_all_group_combined:
            if grads is not None:
                grads.zero_()

    def _init_state(self, group, param) -> None:
        raise NotImplementedError

    def _update(self, group, params, weights, grads, states) -> None:
        raise NotImplementedError


class NpuFusedSGD(NpuFusedOptimizerBase):
    """SGD; unlike PyTorch's it knows neither ``maximize`` nor ``foreach``."""

    _states = ('momentum_buffer',)

    def __init__(
        self, params, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError('Nesterov momentum requires a momentum and zero dampening')
        defaults = dict(
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )
        super().__init__(params, defaults)
        self._first = False

    def _init_state(self, group, param) -> None:
        if group['momentum'] == 0:
            return
        self._first = 'momentum_buffer' not in self.state[param]
        if self._first:
            grad = param.grad.add(param, alpha=group['weight_decay'])
            self.state[param]['momentum_buffer'] = grad

    def _update(self, group, params, weights, grads, states) -> None:
        if group['weight_decay'] != 0:
            grads = grads.add(weights, alpha=group['weight_decay'])
        if group['momentum'] != 0:
            buffer = states['momentum_buffer']
            if not self._first:
                buffer.mul_(group['momentum']).add_(grads, alpha=1 - group['dampening'])
            grads = grads.add(buffer, alpha=group['momentum']) if group['nesterov'] else buffer
        weights.add_(grads, alpha=-group['lr'])

    def step(self, closure=None):
        loss = super().step(closure)
        self._first = False
        return loss


class NpuFusedAdam(NpuFusedOptimizerBase):
    """Adam; the number of steps is a Python number that the whole group shares."""

    _states = ('exp_avg', 'exp_avg_sq', 'max_exp_avg_sq')
    _decoupled = False

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False
    ) -> None:
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)
        super().__init__(params, defaults)

    def _init_state(self, group, param) -> None:
        state = self.state[param]
        state.setdefault('step', 0)
        for name in self._states[: 3 if group['amsgrad'] else 2]:
            if name not in state:
                state[name] = torch.zeros_like(param)

    def _update(self, group, params, weights, grads, states) -> None:
        for param in params:
            self.state[param]['step'] += 1
        step = self.state[params[0]]['step']
        beta1, beta2 = group['betas']
        if self._decoupled:
            weights.mul_(1 - group['lr'] * group['weight_decay'])
        elif group['weight_decay'] != 0:
            grads = grads.add(weights, alpha=group['weight_decay'])
        mean, square = states['exp_avg'], states['exp_avg_sq']
        mean.mul_(beta1).add_(grads, alpha=1 - beta1)
        square.mul_(beta2).addcmul_(grads, grads, value=1 - beta2)
        if group['amsgrad']:
            square = states['max_exp_avg_sq'].copy_(torch.maximum(states['max_exp_avg_sq'], square))
        root = (square.sqrt() / math.sqrt(1 - beta2**step)).add_(group['eps'])
        weights.addcdiv_(mean, root, value=-group['lr'] / (1 - beta1**step))


class NpuFusedAdamW(NpuFusedAdam):
    """Adam with decoupled weight decay."""

    _decoupled = True

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)
