# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert CenterFace weights of other projects to mmface's names, and back to MindSpore's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmface.weights.hints import looks_like
from mmface.weights.mobilenet_v2 import Layer, Layout, backbone_layers, parameter_names
from mmface.weights.onnx_convs import OnnxNetwork

# Prefixes that data-parallel wrappers and training cells add to every name.
_PREFIXES = {
    Layout.MMFACE: r'module\.',
    Layout.CHENJUN2HAO: r'module\.',
    Layout.MINDSPORE: r'centerface_network\.',
    Layout.TORCHVISION: r'module\.',
    Layout.MINDSPORE_IMAGENET: r'(network\.)?(backbone\.)?',
}
# MindSpore's CenterFace loads ImageNet weights under this prefix.
_IMAGENET_PREFIX = 'network.backbone.'
_BACKBONE_ONLY = (Layout.TORCHVISION, Layout.MINDSPORE_IMAGENET)
# In optimizer states, the parameter's name follows. Counters and rates have no dot.
_TRAINING_STATE = re.compile(r'(moments|moment1|moment2)\..+|[^.]+')
_CLASSIFIER = re.compile(r'(features\.18|classifier|(network\.)?head|dense)\..+')
_BODY_CONVS = 56
_HEADS = ('heatmap', 'size', 'offset', 'keypoints')
_DEPTHWISE = 'depthwise_conv.conv.weight'

#: The config of each published variant. The key is the width of the backbone, the channels of the
#: neck, and whether the neck's transposed convolutions are depthwise.
VARIANT_CONFIGS = {
    (1.0, 64, True): 'centerface',
    (1.0, 24, False): 'centerface_starclouds',
    (1.0, 64, False): 'centerface_mindspore',
    (0.5, 24, False): 'centerface_small',
}
#: Coder convention for which the weights of a project are trained, see ``CenterFaceCoder``.
CONVENTIONS = {Layout.CHENJUN2HAO: 'centernet', Layout.MINDSPORE: 'mindspore'}


class CenterFaceVariant(NamedTuple):
    """Properties of a model, found from the tensors of a CenterFace checkpoint.

    Attributes:
        layout: The project whose names the tensors have.
        width: Factor of the backbone's channels.
        neck: Channels of the neck, or ``None`` if there is only a backbone.
        depthwise: Whether the neck's transposed convolutions have one kernel per channel.
        num_keypoints: Number of keypoints per face.
    """

    layout: Layout
    width: float
    neck: int | None
    depthwise: bool
    num_keypoints: int

    @property
    def config(self) -> str | None:
        """Name of the published config of this shape, if there is one."""
        if self.neck is None or self.num_keypoints != 5:
            return None
        return VARIANT_CONFIGS.get((self.width, self.neck, self.depthwise))

    @property
    def hint(self) -> str:
        """Description of these weights for a user whose model they do not fit, as one clause."""
        origin = None if self.layout is Layout.MMFACE else self.layout.value
        return looks_like(self, self.config, origin)

    def __str__(self) -> str:
        if self.neck is None:
            return f'MobileNetV2 of width {self.width:g}'
        return (
            f'CenterFace with a backbone of width {self.width:g}, a '
            f'{"depthwise" if self.depthwise else "dense"} neck {self.neck} wide and '
            f'{self.num_keypoints or "no"} keypoints'
        )


def layers_of(layout: Layout) -> list[Layer]:
    """List CenterFace's layers by the names of a project, in execution order.

    For a layout of ImageNet weights, only the layers of the backbone are listed.
    """
    backbone = backbone_layers(layout)
    if layout in _BACKBONE_ONLY:
        return backbone
    if layout is Layout.MMFACE:
        heads = [f'bbox_head.module.{head}' for head in _HEADS]
        ups = [
            (Layer(f'neck.ups.{i}.deconv', f'neck.ups.{i}.bn'), _triple(f'neck.laterals.{i}'))
            for i in range(3)
        ]
        top, last = _triple('neck.top'), _triple('neck.last')
    else:
        mindspore = layout is Layout.MINDSPORE
        names = [f'dla_up.up{i + 1}' if mindspore else f'dla_up.up_{i}' for i in range(3)]
        ups = [
            (Layer(f'{up}.up.0', f'{up}.up.1'), Layer(f'{up}.conv.0', f'{up}.conv.1'))
            for up in names
        ]
        top = Layer('dla_up.conv.0', 'dla_up.conv.1')
        last = Layer('dla_up.conv_last.0', 'dla_up.conv_last.1')
        if mindspore:
            heads = ['hm_head.0', 'wh_head', 'off_head', 'kps_head']
        else:
            heads = ['hm.0', 'wh', 'hm_offset', 'landmarks']
    neck = [top, *(layer for pair in ups for layer in pair), last]
    return [*backbone, *neck, *(Layer(head, None) for head in heads)]


def rename(state_dict: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Tensor], list[str]] | None:
    """Rename the tensors of a known CenterFace or MobileNetV2 layout to mmface's names.

    Args:
        state_dict: Weights with the names of chenjun2hao (also Ascend's), MindSpore,
            torchvision or mmface.

    Returns:
        ``None`` if less than half of the backbone is found under the names of any layout.
        Otherwise the layout, the renamed tensors and the dropped keys. Dropped are the training
        state and, in an ImageNet classifier, the layers after CenterFace's part. Unknown keys
        keep their names, so that a comparison with a model reports them.
    """
    best: dict[str, Tensor] = {}
    layout, hits = Layout.MMFACE, 0
    for candidate in Layout:
        stripped = _strip(candidate, state_dict)
        names = parameter_names(backbone_layers(candidate), candidate.is_mindspore)
        found = sum(name in stripped for name in names)
        if found > hits and 2 * found >= len(names):
            layout, best, hits = candidate, stripped, found
    if not hits:
        return None
    if layout is Layout.MMFACE:
        return layout, best, []
    layers, own = layers_of(layout), layers_of(Layout.MMFACE)
    table = dict(
        zip(parameter_names(layers, layout.is_mindspore), parameter_names(own), strict=False)
    )
    for theirs, ours in zip(layers, own, strict=False):
        table[f'{theirs.norm}.num_batches_tracked'] = f'{ours.norm}.num_batches_tracked'
    dropped = [key for key in best if key not in table and _is_unused(layout, key, best[key])]
    renamed = {table.get(key, key): best[key] for key in best if key not in dropped}
    for key, value in renamed.items():
        # MindSpore's depthwise convolution of early versions has the channels in dimension 1.
        if key.endswith(_DEPTHWISE) and value.ndim == 4 and value.shape[0] == 1:
            renamed[key] = value.transpose(0, 1)
    return layout, renamed, dropped


def guess_centerface_variant(state_dict: Mapping[str, Tensor]) -> CenterFaceVariant | None:
    """Find the variant of a checkpoint from the shapes of its tensors.

    Args:
        state_dict: Weights under the names of any known layout.

    Returns:
        The variant, or ``None`` if these are not weights of CenterFace or MobileNetV2.
    """
    known = rename(state_dict)
    return None if known is None else variant_of(known[0], known[1])


def variant_of(layout: Layout, state_dict: Mapping[str, Tensor]) -> CenterFaceVariant:
    """Find the variant of tensors with mmface's names; see ``guess_centerface_variant``."""

    def shape(key: str) -> tuple[int, ...]:
        return tuple(state_dict[key].shape) if key in state_dict else ()

    stem, top = shape('backbone.stem.conv.weight'), shape('neck.top.conv.weight')
    up, keypoints = shape('neck.ups.0.deconv.weight'), shape('bbox_head.module.keypoints.weight')
    return CenterFaceVariant(
        layout,
        stem[0] / 32 if stem else 1.0,
        top[0] if top else None,
        up[1:2] == (1,) and up[0] > 1,
        keypoints[0] // 2 if keypoints else 0,
    )


def is_centerface_onnx(network: OnnxNetwork) -> bool:
    """Return whether a network has CenterFace's number of layers, with or without keypoints."""
    return len(network.deconvs) == 3 and len(network.convs) in (_BODY_CONVS + 3, _BODY_CONVS + 4)


def from_onnx(network: OnnxNetwork) -> dict[str, Tensor]:
    """Return the weights of an exported CenterFace under mmface's names.

    Layers are matched by execution order. The heads with one and ten channels are identified by
    these numbers, and size comes before offset in all projects. A folded batch norm becomes one
    that only adds the folded bias. Its variance must still be set, see ``unit_variances``.

    Args:
        network: The exported network, for which ``is_centerface_onnx`` is true.

    Returns:
        All tensors except the variances.
    """
    body, heads = network.convs[:_BODY_CONVS], network.convs[_BODY_CONVS:]
    convs = iter([*body, *sorted(heads, key=lambda head: len(head.weight))])
    deconvs = iter(network.deconvs)
    state: dict[str, Tensor] = {}
    for conv, norm in layers_of(Layout.MMFACE):
        layer = next(deconvs if conv.endswith('.deconv') else convs, None)
        if layer is None:  # no keypoints
            break
        weight = torch.from_numpy(layer.weight.copy())
        # The first dimension of weight is the inputs of a transposed convolution, equal in number
        # to its outputs.
        bias = torch.zeros(len(weight))
        if layer.bias is not None:
            bias = torch.from_numpy(layer.bias.copy())
        state[f'{conv}.weight'] = weight
        state[f'{norm or conv}.bias'] = bias
        if norm is not None:
            state[f'{norm}.weight'] = torch.ones_like(bias)
            state[f'{norm}.running_mean'] = torch.zeros_like(bias)
    return state


def unit_variances(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Add the variances with which the norms of ``from_onnx`` divide by one.

    Args:
        state_dict: Result of ``from_onnx``.
        model: The model to load. The eps of its norms is used.
    """
    state = dict(state_dict)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and f'{name}.bias' in state:
            state[f'{name}.running_var'] = torch.full_like(state[f'{name}.bias'], 1 - module.eps)
    return state


def check_model(model: Any, convention: str | None, clipped: bool | None) -> None:
    """Check properties that the shapes of weights do not show.

    Args:
        model: The CenterFace to load the weights into.
        convention: Coder convention for which the weights are trained; ``None`` if unknown.
        clipped: Whether their backbone has ReLU6, not ReLU; ``None`` if unknown.

    Raises:
        ValueError: The model has another convention or activation.
    """
    own = model.bbox_head.coder.convention
    if convention not in (None, own):
        raise ValueError(
            f"these weights are trained for the coder convention '{convention}', the config has "
            f"'{own}'"
        )
    own_clipped = any(isinstance(module, nn.ReLU6) for module in model.backbone.modules())
    if clipped not in (None, own_clipped):
        names = {True: 'ReLU6', False: 'ReLU'}
        raise ValueError(
            f'the backbone of these weights has {names[bool(clipped)]}, that of the config '
            f'{names[own_clipped]}'
        )


def to_mindspore(state_dict: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Rename mmface's weights to MindSpore's names.

    Args:
        state_dict: Weights of a whole CenterFace or of its backbone.

    Returns:
        Arrays for ``write_mindspore_ckpt``. Weights of a backbone get the names under which
        MindSpore's CenterFace loads ImageNet weights.

    Raises:
        ValueError: A tensor belongs to another model.
    """
    backbone_only = all(key.startswith('backbone.') for key in state_dict)
    layout = Layout.MINDSPORE_IMAGENET if backbone_only else Layout.MINDSPORE
    prefix = _IMAGENET_PREFIX if backbone_only else ''
    own = parameter_names(layers_of(Layout.MMFACE))
    theirs = parameter_names(layers_of(layout), mindspore=True)
    table = dict(zip(own, theirs, strict=False))
    # Counts the batches for norms without a momentum. All norms here have one.
    wanted = [key for key in state_dict if not key.endswith('.num_batches_tracked')]
    alien = [key for key in wanted if key not in table]
    if alien:
        raise ValueError(
            'MindSpore checkpoints can be written only for CenterFace and its MobileNetV2; '
            f'{len(alien)} tensors belong to another model, such as {alien[0]}'
        )
    return {prefix + table[key]: state_dict[key].numpy() for key in wanted}


def mindspore_state(tensors: Mapping[str, np.ndarray | str]) -> dict[str, Tensor]:
    """Convert the content of a MindSpore checkpoint to a state dict, half precision to single.

    Text entries, such as MindSpore's random states, are skipped.
    """
    arrays = {key: value for key, value in tensors.items() if isinstance(value, np.ndarray)}
    return {
        key: torch.from_numpy(value.astype(np.float32) if value.dtype.kind == 'f' else value)
        for key, value in arrays.items()
    }


def _triple(name: str) -> Layer:
    """Return the names of the layers of mmcv's ``ConvModule``."""
    return Layer(f'{name}.conv', f'{name}.bn')


def _is_unused(layout: Layout, key: str, value: Tensor) -> bool:
    """Return whether a tensor outside the network is expected in such a file."""
    if layout.is_mindspore and (value.numel() == 1 or _TRAINING_STATE.fullmatch(key)):
        return True
    return layout in _BACKBONE_ONLY and _CLASSIFIER.fullmatch(key) is not None


def _strip(layout: Layout, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers add to the names."""
    stripped = {re.sub(f'^{_PREFIXES[layout]}', '', key): v for key, v in state_dict.items()}
    if layout is Layout.CHENJUN2HAO:
        # Names of a head without the sigmoid as second layer.
        stripped = {re.sub(r'^hm\.(?=[wb])', 'hm.0.', key): v for key, v in stripped.items()}
    return stripped
