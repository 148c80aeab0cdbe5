# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert CenterNet2 weights of the reference to mmface's names, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmface.models.backbones.dla import CHANNELS
from mmface.weights import resnet
from mmface.weights.centernet2_names import (
    Structure,
    layer_names,
    our_structure,
    their_structure,
)
from mmface.weights.hints import looks_like

#: The project whose names the weights have, for messages.
ORIGIN = 'xingyizhou/CenterNet2'
#: The config of each published COCO variant. The key is stages, backbone, neck and its channels.
VARIANT_CONFIGS = {
    (3, 'ResNet-50', 'FPN', 256): 'centernet2_r50_1x',
    (1, 'ResNet-50', 'FPN', 256): 'centernet2_f_r50_1x',
    (0, 'ResNet-50', 'FPN', 256): 'centernet_fpn_r50_1x',
    (3, 'ResNeXt-101 with 32 groups and deformable convolutions', 'FPN', 256): (
        'centernet2_x101_dcn_2x'
    ),
    (3, 'Res2Net-101 with deformable convolutions', 'FPN', 256): 'centernet2_r2_101_dcn_896_4x',
    (3, 'Res2Net-101 with deformable convolutions', 'BiFPN', 288): (
        'centernet2_r2_101_dcn_bifpn_1280_4x'
    ),
    (3, 'DLA-34', 'FCOS BiFPN', 160): 'centernet2_dla_bifpn_p3_4x',
    (3, 'DLA-34', 'BiFPN', 160): 'centernet2_dla_bifpn_p5_640_16x',
}
_COCO_CLASSES = 80
# Normalisation and class frequencies are set in the config.
_SETTINGS = re.compile(r'pixel_(mean|std)|roi_heads\.box_predictor\.(\d\.)?freq_weight')
_DLA_PARTS = re.compile(r'(base_layer|level\d)\..+')
_RES2NET_OFFSET = re.compile(r'.*\.convs\.\d\.conv_offset\.')


class CenterNet2Variant(NamedTuple):
    """Properties of a model, found from the tensors of a CenterNet2 checkpoint.

    Attributes:
        origin: The project whose names the tensors have; ``None`` for mmface.
        stages: Number of stages after the proposals; 0 for a one-stage detector.
        backbone: The backbone.
        neck: FPN, BiFPN, or FCOS BiFPN.
        channels: Channels of the neck's maps.
        num_classes: Number of classes.
        deformable: Whether the dense head has deformable convolutions.
    """

    origin: str | None
    stages: int
    backbone: resnet.BackboneVariant
    neck: str
    channels: int
    num_classes: int
    deformable: bool

    @property
    def config(self) -> str | None:
        """Name of the published config of this shape, if there is one."""
        if self.num_classes != _COCO_CLASSES:
            return None
        return VARIANT_CONFIGS.get((self.stages, str(self.backbone), self.neck, self.channels))

    @property
    def hint(self) -> str:
        """Description of these weights for a user whose model they do not fit, as one clause."""
        return looks_like(self, self.config, self.origin)

    def fits(self, model: Mapping[str, Any]) -> bool:
        """Return whether a config's model is of this kind. Shapes may still differ."""
        if not self.backbone.fits(model.get('backbone') or {}):
            return False
        if self.stages:
            roi_head = model.get('roi_head') or {}
            return model['type'] == 'CenterNet2' and roi_head.get('num_stages') == self.stages
        return (model.get('bbox_head') or {}).get('type') == 'CenterNetOneStageHead'

    def __str__(self) -> str:
        kinds = {0: 'one-stage CenterNet', 1: 'CenterNet2-F', 3: 'CenterNet2'}
        kind = kinds.get(self.stages, f'CenterNet2 of {self.stages} stages')
        head = ', deformable convolutions in its head' if self.deformable else ''
        return (
            f'{kind} on {self.backbone}, {self.neck} {self.channels} wide{head}, '
            f'{self.num_classes} class(es)'
        )


class CenterNet2Weights(NamedTuple):
    """Weights of a CenterNet2 under mmface's names.

    Attributes:
        variant: The model of the weights.
        state_dict: The tensors.
        dropped: Keys that were dropped.
    """

    variant: CenterNet2Variant
    state_dict: dict[str, Tensor]
    dropped: list[str]


def rename(state_dict: Mapping[str, Tensor]) -> CenterNet2Weights | None:
    """Rename the tensors of a CenterNet2 to mmface's names.

    Args:
        state_dict: Weights under the names of the reference or of mmface.

    Returns:
        The weights, or ``None`` if they belong to another model. Unknown keys keep their names,
        so that a comparison with a model reports them.
    """
    plain = {key.removeprefix('module.'): value for key, value in state_dict.items()}
    structure = their_structure(plain)
    if structure is None:
        structure = our_structure(plain)
        if structure is None:
            return None
        return CenterNet2Weights(_variant(None, structure, plain), plain, [])
    dropped = []
    names = dict(layer_names(structure))
    renamed = {}
    for key, value in plain.items():
        part = key.removeprefix(structure.dla)
        if _SETTINGS.fullmatch(key) or resnet.UNREAD_PROJECTIONS.fullmatch(part):
            dropped.append(key)
            continue
        known = part != key and _DLA_PARTS.fullmatch(part)
        name = f'{resnet.PREFIX}{part}' if known else resnet.rename_key(key, names)
        # A scale has shape () here and (1,) in the reference.
        renamed[name] = value.reshape(()) if name.endswith('.scale') else value
        if _RES2NET_OFFSET.match(name):
            # mmcv's offset convolutions have a bias.
            renamed[f'{name.removesuffix(".weight")}.bias'] = value.new_zeros(len(value))
    return CenterNet2Weights(_variant(ORIGIN, structure, renamed), renamed, dropped)


def guess_centernet2_variant(state_dict: Mapping[str, Tensor]) -> CenterNet2Variant | None:
    """Find the variant of a checkpoint from its tensors.

    Args:
        state_dict: Weights under the names of the reference or of mmface.

    Returns:
        The variant, or ``None`` if these are not weights of CenterNet2.
    """
    known = rename(state_dict)
    return None if known is None else known.variant


def to_detectron2(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename mmface's weights to the names of the reference.

    Args:
        state_dict: Weights of a whole CenterNet2, or of its backbone, with mmface's names.

    Returns:
        The tensors. Those of a backbone get the names of detectron2's ImageNet models.

    Raises:
        ValueError: A tensor belongs to another model, or it does not exist in the reference.
    """
    backbone_only = all(key.startswith(resnet.PREFIX) for key in state_dict)
    structure = our_structure(state_dict)
    if structure is None:
        if not backbone_only:
            raise ValueError(
                'names of detectron2 exist only for CenterNet2 and its backbones; these '
                f'{len(state_dict)} tensors belong to another model (such as '
                f'{next(iter(state_dict))})'
            )
        structure = Structure('rpn_head', -1, resnet.is_res2net(state_dict), False, 5)
    names = {ours: theirs for theirs, ours in layer_names(structure)}
    renamed: dict[str, Tensor] = {}
    alien = []
    for key, value in state_dict.items():
        part = key.removeprefix(resnet.PREFIX)
        if part != key and _DLA_PARTS.fullmatch(part):
            renamed[structure.dla + part] = value
            continue
        name = resnet.rename_key(key, names)
        if name == key:
            alien.append(key)
        elif _RES2NET_OFFSET.match(key) and key.endswith('.bias'):
            if value.any():
                raise ValueError(
                    f'{key} was learned, but offsets of the reference have no bias: these weights '
                    'cannot be converted to it'
                )
        # Norms are frozen in the reference and count no batches.
        elif not key.endswith('.num_batches_tracked'):
            renamed[name] = value.reshape(1) if key.endswith('.scale') else value
    if alien:
        raise ValueError(
            f'{len(alien)} of {len(state_dict)} tensors have no name in the reference, such as '
            f'{alien[0]}'
        )
    _add_projections(structure.dla, renamed)
    if backbone_only:
        return {key.removeprefix(structure.dla): value for key, value in renamed.items()}
    return renamed


def _variant(
    origin: str | None, structure: Structure, state_dict: Mapping[str, Tensor]
) -> CenterNet2Variant:
    """Find the variant from tensors with mmface's names."""

    def rows(key: str) -> int:
        return len(state_dict[key]) if key in state_dict else 0

    box = 'roi_head.bbox_head'
    numbered = [stage for stage in range(10) if rows(f'{box}.{stage}.fc_cls.bias')]
    if structure.head == 'bbox_head':
        stages, classes = 0, rows('bbox_head.cls_logits.bias')
    else:
        # The last class is the background.
        stages = len(numbered) or 1
        first = f'{box}.0' if numbered else box
        classes = max(rows(f'{first}.fc_cls.bias') - 1, 0)
    neck = 'FPN'
    if 'neck.cells.0.nodes.0.weights' in state_dict:
        neck = 'FCOS BiFPN' if structure.fcos else 'BiFPN'
    return CenterNet2Variant(
        origin,
        stages,
        resnet.variant_of(state_dict),
        neck,
        rows(f'{structure.head}.reg_convs.0.conv.bias'),
        classes,
        structure.deformable >= 0,
    )


def _add_projections(prefix: str, state_dict: dict[str, Tensor]) -> None:
    """Add the two projections of a DLA that the reference computes but does not use."""
    for level in (3, 4):
        root = state_dict.get(f'{prefix}level{level}.tree1.project.0.weight')
        if root is None:
            continue
        name, channels = f'{prefix}level{level}.project', CHANNELS[level]
        state_dict[f'{name}.0.weight'] = torch.zeros_like(root)
        state_dict[f'{name}.1.weight'] = root.new_ones(channels)
        state_dict[f'{name}.1.bias'] = root.new_zeros(channels)
        state_dict[f'{name}.1.running_mean'] = root.new_zeros(channels)
        state_dict[f'{name}.1.running_var'] = root.new_ones(channels)
        state_dict[f'{name}.1.num_batches_tracked'] = torch.tensor(0)
