# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Half-precision weights with float32 masters: the part of O2 in the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmengine.model import BaseDataPreprocessor
from mmengine.utils import apply_to
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

#: Norms whose kernels require weights with the dtype of their input.
OTHER_NORMS = (nn.GroupNorm, nn.LayerNorm, _InstanceNorm)


#: Dtypes of half-precision weights by their names in configs.
HALF_TYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


def half_type(name: str) -> torch.dtype:
    """Return the half-precision dtype called ``name``.

    Raises:
        ValueError: The name is not float16 or bfloat16.
    """
    if name not in HALF_TYPES:
        raise ValueError(f'dtype must be float16 or bfloat16, not {name!r}')
    return HALF_TYPES[name]


def cast_to_half(model: nn.Module, dtype: str = 'float16', half_norms: bool = False) -> None:
    """Cast a detector's weights to half precision and create a float32 master of each.

    What is cast (apex's O2, except for the norms):

    * Parameters and floating-point buffers become ``dtype``. Batch norm (parameters and
      statistics) and the data preprocessor stay float32.
    * Group, layer and instance norm stay float32 and compute in it, unless ``half_norms``.
    * ``inputs``, the first argument of ``model(...)``, becomes ``dtype``. The outputs of a dense
      head or a box head become float32, so that losses and decoding are computed in it.

    The master of a parameter ``p`` is ``p.master``, made from the value before the cast. The
    model's ``state_dict`` returns the masters, and loading one sets masters and weights. So
    checkpoints are float32 for every reader and lose nothing.

    Call this before the model is wrapped for several ranks: a reducer built earlier waits for
    gradients of the old dtype.

    Args:
        model: On its device, initialised. It is changed in place; the parameters stay the same
            objects.
        dtype: 'float16' or 'bfloat16'.
        half_norms: Whether to cast group, layer and instance norm too, as apex does.

    Raises:
        ValueError: The dtype is another one, or the model was cast before.
    """
    half = half_type(dtype)
    if any(hasattr(param, 'master') for param in model.parameters()):
        raise ValueError('the model has half-precision weights already')
    kept: tuple[type, ...] = (_BatchNorm, BaseDataPreprocessor)
    if not half_norms:
        kept += OTHER_NORMS
    for module in model.modules():
        if isinstance(module, kept):
            if isinstance(module, OTHER_NORMS):
                module.register_forward_pre_hook(_inputs_to(torch.float32))
                module.register_forward_hook(_outputs_to(half))
            continue
        for param in module.parameters(recurse=False):
            if param.is_floating_point() and not hasattr(param, 'master'):
                master = nn.Parameter(param.detach().float(), param.requires_grad)
                param.master = master  # type: ignore[attr-defined]
                param.data = param.data.to(half)
        for buffer in module.buffers(recurse=False):
            if buffer.is_floating_point():
                buffer.data = buffer.data.to(half)
        if isinstance(module, (BaseDenseHead, BBoxHead)):
            module.register_forward_hook(_outputs_to(torch.float32))
    model.register_forward_pre_hook(_images_to(half), with_kwargs=True)
    model.register_state_dict_post_hook(_give_masters)
    model.register_load_state_dict_pre_hook(_take_masters)


def weights_and_masters(model: nn.Module) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    """Iterate over the half-precision parameters of ``model`` and their masters."""
    for param in model.parameters():
        master = getattr(param, 'master', None)
        if master is not None:
            yield param, master


@torch.no_grad()
def round_masters(model: nn.Module) -> None:
    """Set the half-precision weights to their masters' values."""
    for param, master in weights_and_masters(model):
        param.copy_(master)


@contextmanager
def masters_as_weights(model: nn.Module) -> Iterator[None]:
    """Use the masters themselves as the parameters of ``model``, to read or to change them.

    This is for code that reads or writes parameters and does not know about masters. The model
    cannot run meanwhile. Afterwards the weights have the masters' values.
    """
    halves = []
    for param, master in weights_and_masters(model):
        halves.append((param, param.data))
        param.data = master.data
    try:
        yield
    finally:
        for param, half in halves:
            param.data = half
        round_masters(model)


def _give_masters(model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, param in model.named_parameters(remove_duplicate=False):
        master = getattr(param, 'master', None)
        if master is not None and prefix + name in state_dict:
            state_dict[prefix + name] = master.detach()
    for name, _buffer in model.named_buffers():
        value = state_dict.get(prefix + name)
        if value is not None and value.dtype in HALF_TYPES.values():
            state_dict[prefix + name] = value.float()


@torch.no_grad()
def _take_masters(model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, param in model.named_parameters(remove_duplicate=False):
        master = getattr(param, 'master', None)
        value = state_dict.get(prefix + name)
        # The loading itself reports a wrong shape.
        if master is not None and value is not None and value.shape == master.shape:
            master.copy_(value)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return apply_to(
        value,
        lambda item: isinstance(item, Tensor) and item.is_floating_point(),
        lambda item: item.to(dtype),
    )


def _inputs_to(dtype: torch.dtype) -> Callable:
    def hook(_: nn.Module, args: tuple) -> tuple:
        return tuple(_cast(arg, dtype) for arg in args)

    return hook


def _outputs_to(dtype: torch.dtype) -> Callable:
    def hook(_: nn.Module, args: tuple, output: Any) -> Any:
        return _cast(output, dtype)

    return hook


def _images_to(dtype: torch.dtype) -> Callable:
    # The ground truth in the samples stays float32.
    def hook(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if args:
            return (_cast(args[0], dtype), *args[1:]), kwargs
        return args, {**kwargs, 'inputs': _cast(kwargs.get('inputs'), dtype)}

    return hook
