# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert ImageNet weights of ResNets and DLA from detectron2 and others to mmface's names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmface.weights.hints import looks_like

#: Prefix of the names of a backbone's tensors in a model.
PREFIX = 'backbone.'
# ResNet-152, the deepest, has 36 blocks in a stage.
_MAX_BLOCKS = 36
_DEPTHS: dict[tuple[int, ...], int] = {
    (2, 2, 2, 2): 18,
    (3, 4, 6, 3): 50,
    (3, 4, 23, 3): 101,
    (3, 8, 36, 3): 152,
}
# The statistics of norms without them are folded into weight and bias. With this variance, the
# norms divide by one (detectron2 FrozenBatchNorm2d).
_FOLDED_VARIANCE = 1 - 1e-5
_CLASSIFIER = re.compile(r'((stem\.)?(fc|linear)|fc1000|pred|head\.fc)\.(weight|bias)')
#: Two projections of a DLA that the reference computes but does not use.
UNREAD_PROJECTIONS = re.compile(r'level[34]\.project\..+')
# Caffe2 has a bias for each convolution. It is about zero where a norm follows.
_CONV_BIAS = re.compile(r'.*(conv\d|shortcut)\.bias')
_CAFFE2 = re.compile(
    r'(?P<layer>(res_)?conv1|fc1000|pred|res(?P<stage>[2-5])_(?P<block>\d+)_branch(?P<branch>1|2[abc]))'
    r'_(?P<part>[a-z_]+)'
)
_CAFFE2_BRANCHES = {'1': 'shortcut', '2a': 'conv1', '2b': 'conv2', '2c': 'conv3'}
# All three spellings of norm parameters that detectron2 reads (c2_model_loading.py).
_CAFFE2_PARTS = {
    'w': 'weight',
    'b': 'bias',
    'bn_s': 'norm.weight',
    'bn_b': 'norm.bias',
    'bn_rm': 'norm.running_mean',
    'bn_riv': 'norm.running_var',
    'bn_gamma': 'norm.weight',
    'bn_beta': 'norm.bias',
    'bn_running_mean': 'norm.running_mean',
    'bn_running_var': 'norm.running_var',
}
_BGR = 'BGR images, mean (103.53, 116.28, 123.675)'
_RGB = 'RGB images, mean (123.675, 116.28, 103.53), std (58.395, 57.12, 57.375)'


class Layout(Enum):
    """The project whose names the tensors of a backbone have; the value is for messages."""

    CAFFE2 = 'Caffe2'
    DETECTRON2 = 'detectron2'
    TORCHVISION = 'torchvision or MMDetection'
    DLA = 'ucbdrive/dla'


# The first convolution of the first block.
_MARKS = {
    Layout.CAFFE2: 'res2_0_branch2a_w',
    Layout.DETECTRON2: 'res2.0.conv1.weight',
    Layout.TORCHVISION: 'layer1.0.conv1.weight',
    Layout.DLA: 'level2.tree1.conv1.weight',
}


class BackboneVariant(NamedTuple):
    """Properties of a backbone, found from its tensors.

    Attributes:
        kind: Its type in a config: ResNet, ResNeXt, Res2Net or DLA.
        depth: Number of layers; 0 if it is not a usual depth.
        groups: Groups of the 3x3 convolutions.
        width: Channels of the stem.
        deformable: Whether there are deformable convolutions.
    """

    kind: str
    depth: int
    groups: int
    width: int
    deformable: bool

    def fits(self, cfg: Mapping[str, Any]) -> bool:
        """Return whether a config's backbone is of this kind. Shapes may still differ."""
        if self.kind == 'DLA':
            return cfg.get('type') == f'DLA{self.depth}'
        # Res2NetCaffe differs only in its strides.
        return cfg.get('type') in (self.kind, f'{self.kind}Caffe') and (
            cfg.get('depth') == self.depth
        )

    def __str__(self) -> str:
        details = []
        if self.groups > 1:
            details.append(f'{self.groups} groups')
        if self.width != (16 if self.kind == 'DLA' else 64):
            details.append(f'a stem {self.width} wide')
        if self.deformable:
            details.append('deformable convolutions')
        name = f'{self.kind}-{self.depth or "?"}'
        return f'{name} with {" and ".join(details)}' if details else name


class BackboneWeights(NamedTuple):
    """Weights of a backbone alone.

    Attributes:
        layout: The project whose names they had.
        state_dict: The tensors under mmface's names, with the prefix ``backbone.``.
        dropped: Keys that were dropped: those of the classifier, and unused ones.
    """

    layout: Layout
    state_dict: dict[str, Tensor]
    dropped: list[str]

    @property
    def variant(self) -> BackboneVariant:
        """Variant of the backbone, found from the tensors."""
        return variant_of(self.state_dict)

    @property
    def hint(self) -> str:
        """Description for a user who loads them into a whole model, as one clause."""
        text = looks_like(f'{self.variant} alone', None, self.layout.value)
        return f"{text} for a config's model.backbone.init_cfg"

    @property
    def note(self) -> str:
        """Properties that the weights do not show and the config must set."""
        if self.layout is Layout.DLA:
            return f'trained on {_RGB}'
        if self.layout is Layout.CAFFE2:
            # MSRA's ResNets, or Facebook's ResNeXts (detectron2 MODEL_ZOO.md).
            if self.variant.groups == 1:
                return f"trained with backbone style='caffe' on {_BGR}, std 1"
            return f"trained with backbone style='pytorch' on {_BGR}, std (57.375, 57.12, 58.395)"
        return (
            'the file does not show how it was trained; compare with the config: torchvision with '
            f"backbone style='pytorch' on {_RGB}; MSRA with style='caffe' on {_BGR}, std 1"
        )


def layer_names(res2net: bool) -> Iterator[tuple[str, str]]:
    """Pair detectron2's names of the layers of a ResNet with mmdet's.

    Args:
        res2net: Whether it is a Res2Net, in which ``downsample.1`` is another layer.

    Yields:
        Name in detectron2 and in mmdet, without the prefix of a backbone. Layers that only some
        models have, such as deformable convolutions, are included.
    """
    yield 'stem.conv1', 'conv1'
    yield 'stem.conv1.norm', 'bn1'
    # A stem of three convolutions.
    for place in (0, 1, 3, 4, 6):
        yield f'stem.conv1.{place}', f'stem.{place}'
    yield 'stem.bn1', 'stem.7'
    # Res2Net has a pooling layer first.
    shortcut, place = ('shortcut.1', 1) if res2net else ('shortcut', 0)
    for stage in range(1, 5):
        for block in range(_MAX_BLOCKS):
            theirs, ours = f'res{stage + 1}.{block}', f'layer{stage}.{block}'
            for conv in (1, 2, 3):
                yield f'{theirs}.conv{conv}', f'{ours}.conv{conv}'
                yield f'{theirs}.conv{conv}.norm', f'{ours}.bn{conv}'
            yield f'{theirs}.conv2_offset', f'{ours}.conv2.conv_offset'
            yield f'{theirs}.{shortcut}', f'{ours}.downsample.{place}'
            yield f'{theirs}.{shortcut}.norm', f'{ours}.downsample.{place + 1}'
            for scale in range(3):
                yield f'{theirs}.convs.{scale}', f'{ours}.convs.{scale}'
                yield f'{theirs}.conv2_offsets.{scale}', f'{ours}.convs.{scale}.conv_offset'
                yield f'{theirs}.bns.{scale}', f'{ours}.bns.{scale}'


def is_res2net(state_dict: Mapping[str, Tensor]) -> bool:
    """Return whether there are Res2Net's blocks, whose 3x3 convolutions are a list."""
    return any('.convs.0.weight' in key for key in state_dict)


def rename_key(key: str, names: Mapping[str, str]) -> str:
    """Rename a tensor by its name or that of its layer; an unknown name is returned unchanged."""
    layer, _, parameter = key.rpartition('.')
    return names.get(key) or (f'{names[layer]}.{parameter}' if layer in names else key)


def rename(state_dict: Mapping[str, Tensor]) -> BackboneWeights | None:
    """Rename the tensors of an ImageNet model to mmface's names.

    Args:
        state_dict: Weights of a ResNet, ResNeXt, Res2Net or DLA under the names of any
            ``Layout``, with or without the prefix ``backbone.``.

    Returns:
        The weights, or ``None`` if they belong to another model or to a whole detector. Unknown
        keys keep their names, so that a comparison with a model reports them.
    """
    dropped = [key for key in state_dict if _CLASSIFIER.fullmatch(_plain_name(key))]
    kept = {key: value for key, value in state_dict.items() if key not in dropped}
    if any(key.startswith(PREFIX) for key in kept):
        if not all(key.startswith(PREFIX) for key in kept):
            return None
        kept = {key.removeprefix(PREFIX): value for key, value in kept.items()}
    layout = next((layout for layout, mark in _MARKS.items() if mark in kept), None)
    if layout is None:
        return None
    if layout is Layout.CAFFE2:
        dropped += [key for key in kept if _CONV_BIAS.fullmatch(_plain_name(key))]
        kept = {_plain_name(key): value for key, value in kept.items() if key not in dropped}
        _add_statistics(kept)
    if layout is Layout.DLA:
        unread = [key for key in kept if UNREAD_PROJECTIONS.fullmatch(key)]
        dropped += unread
        kept = {key: value for key, value in kept.items() if key not in unread}
    if layout in (Layout.CAFFE2, Layout.DETECTRON2):
        names = dict(layer_names(is_res2net(kept)))
        kept = {rename_key(key, names): value for key, value in kept.items()}
    return BackboneWeights(layout, {PREFIX + key: v for key, v in kept.items()}, dropped)


def with_offsets(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Add the offset convolutions of a model, which ImageNet weights do not have.

    Args:
        state_dict: Weights of the backbone under mmface's names.
        model: The model to load. Offsets start with zero, as mmcv initialises them.
    """
    offsets = {
        key: torch.zeros_like(value)
        for key, value in model.state_dict().items()
        if key.startswith(PREFIX) and '.conv_offset.' in key
    }
    return {**offsets, **state_dict}


def variant_of(state_dict: Mapping[str, Tensor]) -> BackboneVariant:
    """Find the variant of a backbone from its tensors under mmface's names.

    Args:
        state_dict: Weights of a backbone, or of a model with one.
    """
    shapes = {
        key.removeprefix(PREFIX): tuple(value.shape)
        for key, value in state_dict.items()
        if key.startswith(PREFIX)
    }
    deformable = any('.conv_offset.' in key for key in shapes)
    if _MARKS[Layout.DLA] in shapes:
        # DLA-34 has blocks of two convolutions, the next larger DLA has blocks of three.
        depth = 60 if 'level2.tree1.conv3.weight' in shapes else 34
        width = shapes.get('base_layer.0.weight', (16,))[0]
        return BackboneVariant('DLA', depth, 1, width, deformable)
    blocks = tuple(
        sum(f'layer{stage}.{block}.conv1.weight' in shapes for block in range(_MAX_BLOCKS))
        for stage in range(1, 5)
    )
    depth = _DEPTHS.get(blocks, 0)
    if depth == 50 and 'layer1.0.conv3.weight' not in shapes:
        depth = 34
    stem = shapes.get('conv1.weight') or shapes.get('stem.6.weight') or (64,)
    spatial = shapes.get('layer1.0.conv2.weight', (1, 1))
    groups = spatial[0] // spatial[1]
    kind = 'ResNeXt' if groups > 1 else 'Res2Net' if is_res2net(state_dict) else 'ResNet'
    return BackboneVariant(kind, depth, groups, stem[0], deformable)


def _plain_name(key: str) -> str:
    """Return detectron2's name of a tensor with Caffe2's name; other names are unchanged."""
    match = _CAFFE2.fullmatch(key)
    if match is None or match['part'] not in _CAFFE2_PARTS:
        return key
    layer = match['layer'].removeprefix('res_')
    if match['stage']:
        layer = f'res{match["stage"]}.{match["block"]}.{_CAFFE2_BRANCHES[match["branch"]]}'
    elif layer == 'conv1':
        layer = 'stem.conv1'
    return f'{layer}.{_CAFFE2_PARTS[match["part"]]}'


def _add_statistics(state_dict: dict[str, Tensor]) -> None:
    """Add the statistics of norms that have only weight and bias."""
    for key, value in list(state_dict.items()):
        norm = key.removesuffix('.norm.weight')
        if norm != key:
            state_dict.setdefault(f'{norm}.norm.running_mean', torch.zeros_like(value))
            state_dict.setdefault(
                f'{norm}.norm.running_var', torch.full_like(value, _FOLDED_VARIANCE)
            )
