# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A stem that keeps fewer maps for the backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

_MODULES = 10


class LeanStem(nn.Sequential):
    """Three times convolution, norm and ReLU, with a 2x2 max pool before the last ReLU.

    The maps of a stem are the largest of a network, and by default autograd keeps the input and
    the output of every norm. Here

    * the first two outputs of norm and ReLU are computed again in the backward pass;
    * the pool keeps one byte for each of its outputs instead of its input and 64-bit indices;
    * the pool comes before the ReLU, which does not change the result, so that the ReLU works on
      a quarter of the values.

    Outputs, gradients and running statistics are those of the modules in sequence, bit for bit.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output for images (B, C, H, W)."""
        whole = len(self) == _MODULES  # a slice is a LeanStem, too
        if not whole or not self.training or not torch.is_grad_enabled():
            return super().forward(x)
        conv1, norm1, relu1, conv2, norm2, relu2, conv3, norm3, _, relu3 = self
        x = conv1(x)
        x = _norm_relu_conv(x, norm1, relu1, conv2)
        x = _norm_relu_conv(x, norm2, relu2, conv3)
        return relu3(_Pool.apply(norm3(x)))


def _norm_relu_conv(x: Tensor, norm: nn.Module, relu: nn.Module, conv: nn.Module) -> Tensor:
    """Apply the modules. In the backward pass, norm and ReLU are computed again from ``x``.

    ``checkpoint`` stops when it has the input of the convolution, so that one is not repeated.
    """

    def run(x: Tensor) -> Tensor:
        return conv(relu(norm(x)))

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _StatisticsKept(norm)

    return checkpoint(run, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


class _StatisticsKept(AbstractContextManager):
    """Lets a norm update copies of its running statistics: the forward pass has updated them.

    It can be entered again, as for a second backward pass.
    """

    def __init__(self, norm: nn.Module) -> None:
        self.norm = norm

    def __enter__(self) -> None:
        self.buffers = dict(self.norm.named_buffers(recurse=False))
        copies = {name: value.clone() for name, value in self.buffers.items()}
        self.norm._buffers.update(copies)

    def __exit__(self, *_: object) -> None:
        self.norm._buffers.update(self.buffers)


class _Pool(torch.autograd.Function):
    """A 2x2 max pool with stride 2. On a tie the first value gets the gradient, as in torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        first, right, below, last = _corners(x)
        upper, lower = torch.maximum(first, right), torch.maximum(below, last)
        in_lower = lower > upper
        in_right = torch.where(in_lower, last > below, right > first)
        ctx.save_for_backward(in_lower, in_right)
        ctx.layout = x.shape, x.stride()
        return torch.maximum(upper, lower)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        in_lower, in_right = ctx.saved_tensors
        out = grad.new_empty_strided(*ctx.layout).zero_()
        chosen = (
            torch.where(row & column, grad, 0)
            for row in (~in_lower, in_lower)
            for column in (~in_right, in_right)
        )
        for corner, values in zip(_corners(out), chosen, strict=True):
            corner.copy_(values)
        return out


def _corners(x: Tensor) -> list[Tensor]:
    """Return views of the four values of each 2x2 window, row by row."""
    height, width = (size // 2 * 2 for size in x.shape[-2:])
    return [x[..., row:height:2, column:width:2] for row in (0, 1) for column in (0, 1)]
