# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert published SCRFD weights (insightface) to mmface's names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from mmcv.cnn import Scale
from torch import Tensor, nn

from mmface.weights.onnx_convs import OnnxNetwork

# The keys of heads contain the text of the stride pair, or "0" if the strides share one head.
_LEVELS = {'0': 0, **{f'({stride}, {stride})': level for level, stride in enumerate((8, 16, 32))}}
_HEAD_KEY = re.compile(
    r'bbox_head\.(?P<part>cls_stride_convs|stride_cls|stride_reg|stride_kps)'
    r'\.(?P<level>0|\(\d+, \d+\))\.(?P<rest>.+)'
)
_PARTS = {
    'cls_stride_convs': 'towers',
    'stride_cls': 'cls_convs',
    'stride_reg': 'reg_convs',
    'stride_kps': 'kps_convs',
}
# The bins of an integral that no model uses, because distribution focal loss is off everywhere.
UNUSED_KEYS = ('bbox_head.integral.project',)


def is_insightface(state_dict: Mapping[str, Tensor]) -> bool:
    """Return whether the keys are those of an SCRFD checkpoint of insightface."""
    return any(key.startswith('bbox_head.stride_cls.') for key in state_dict)


def rename(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of an insightface SCRFD state dict.

    Args:
        state_dict: Weights with shared or per-stride heads.

    Returns:
        The same tensors under mmface's names, without ``UNUSED_KEYS``. Unknown keys keep their
        names, so that a comparison with a model reports them.
    """
    return {rename_key(key): value for key, value in state_dict.items() if key not in UNUSED_KEYS}


def rename_key(key: str) -> str:
    """Rename one key of an insightface SCRFD state dict."""
    match = _HEAD_KEY.fullmatch(key)
    if match and match['level'] in _LEVELS:
        return f'bbox_head.module.{_PARTS[match["part"]]}.{_LEVELS[match["level"]]}.{match["rest"]}'
    return re.sub(r'^bbox_head\.scales\.', 'bbox_head.module.scales.', key)


def from_onnx(network: OnnxNetwork, model: nn.Module) -> dict[str, Tensor]:
    """Return an exported network's weights under the names of a model.

    Convolutions and group norms are matched by execution order. A batch norm that the exporter
    folded into the preceding convolution becomes an identity that only adds the folded bias.

    Args:
        network: The exported network.
        model: The mmface model from which it was exported. It is run once on a small input.

    Returns:
        A complete state dict for ``model``.

    Raises:
        ValueError: The number or shapes of the layers differ; the message lists the differences.
    """
    layers = _execution_order(model)
    found = [tuple(conv.weight.shape) for conv in network.convs]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    expected = [tuple(state[f'{conv}.weight'].shape) for conv, _ in layers]
    wrong = [
        f'{layers[i][0]}: expected {expected[i]}, found {found[i]}'
        for i in range(min(len(found), len(expected)))
        if found[i] != expected[i]
    ]
    if wrong or len(found) != len(expected):
        raise ValueError(
            f'the file has {len(found)} convolutions, the model {len(expected)}; '
            f'{len(wrong)} shapes differ: {"; ".join(wrong[:5])}'
        )
    scales = [name for name, module in model.named_modules() if isinstance(module, Scale)]
    if len(network.factors) != len(scales):
        raise ValueError(
            f'the file has {len(network.factors)} scale factors, the model {len(scales)}'
        )
    _check_copies([conv for conv, _ in layers], network.convs)
    group_norms = _group_norms(network, model, layers)
    for (conv, norm), weights in zip(layers, network.convs, strict=True):
        state[f'{conv}.weight'] = torch.from_numpy(weights.weight.copy())
        channels = len(weights.weight)
        bias = torch.zeros(channels)
        if weights.bias is not None:
            bias = torch.from_numpy(weights.bias.copy())
        if norm is None:
            state[f'{conv}.bias'] = bias
            continue
        if norm in group_norms:
            if bias.any():
                raise ValueError(f'{conv} has a bias in the file, but not in the model')
            state[f'{norm}.weight'], state[f'{norm}.bias'] = group_norms[norm]
            continue
        state[f'{norm}.bias'] = bias
        state[f'{norm}.weight'] = torch.ones(channels)
        state[f'{norm}.running_mean'] = torch.zeros(channels)
        state[f'{norm}.running_var'] = torch.full(
            (channels,), 1 - cast(nn.BatchNorm2d, model.get_submodule(norm)).eps
        )
    for name, factor in zip(scales, network.factors, strict=True):
        state[f'{name}.scale'] = torch.tensor(factor)
    return state


def _group_norms(
    network: OnnxNetwork, model: nn.Module, layers: Sequence[tuple[str, str | None]]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return weight and bias of each group norm under its name."""
    names = [norm for _, norm in layers if norm and _is_group_norm(model, norm)]
    modules = [cast(nn.GroupNorm, model.get_submodule(name)) for name in names]
    expected = [(norm.num_groups, norm.num_channels) for norm in modules]
    found = [(norm.groups, len(norm.weight)) for norm in network.group_norms]
    if found != expected:
        raise ValueError(
            f'the file has {len(found)} group norms (groups and channels '
            f'{sorted(set(found))}), the model {len(expected)} ({sorted(set(expected))})'
        )
    for name, module, norm in zip(names, modules, network.group_norms, strict=True):
        if not math.isclose(module.eps, norm.epsilon, rel_tol=1e-3):
            raise ValueError(
                f'{name}: eps {norm.epsilon:g} in the file, {module.eps:g} in the model'
            )
    _check_copies(names, network.group_norms)
    return {
        name: (torch.from_numpy(norm.weight.copy()), torch.from_numpy(norm.bias.copy()))
        for name, norm in zip(names, network.group_norms, strict=True)
    }


def _check_copies(names: Sequence[str], layers: Sequence[NamedTuple]) -> None:
    """Check that a layer that runs once for each stride has the same weights each time.

    Exporters unroll a head that the strides share.
    """
    first = dict(reversed(list(zip(names, layers, strict=True))))
    for name, layer in zip(names, layers, strict=True):
        if not all(map(np.array_equal, layer, first[name])):
            raise ValueError(
                f'{name} is shared by the strides of the model, but its weights differ in the file'
            )


def _is_group_norm(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name), nn.GroupNorm)


@torch.no_grad()
def _execution_order(model: nn.Module) -> list[tuple[str, str | None]]:
    """Run the model once and list its convolutions with the norm that follows each."""
    order: list[tuple[str, str | None]] = []

    def watch(name: str, is_norm: bool) -> nn.modules.module.RemovableHandle:
        def record(*_: object) -> None:
            if is_norm:
                order[-1] = (order[-1][0], name)
            else:
                order.append((name, None))

        return model.get_submodule(name).register_forward_hook(record)

    handles = [
        watch(name, isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm))
    ]
    training = model.training
    model.eval()
    model(torch.zeros(1, 3, 64, 64), mode='tensor')
    model.train(training)
    for handle in handles:
        handle.remove()
    return order
