# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Names of CenterNet2's layers in the reference and in mmface.

The reference is xingyizhou/CenterNet2 with its modules for detectron2. The names of DLA, BiFPN,
Res2Net and deformable convolutions are taken from its code; no file with them was available.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from mmface.models.necks.bifpn import bifpn_nodes
from mmface.weights import resnet

_HEAD = 'proposal_generator.centernet_head.'
_BOTTOM_UP = 'backbone.bottom_up.'
# More than in any published model.
_MAX_CELLS = 16
_MAX_CONVS = 8
_STAGES = 3
_LEVELS = 5


class Structure(NamedTuple):
    """Structure of a model as far as it determines the names of its layers, on both sides.

    Attributes:
        head: The dense head in mmface: ``rpn_head``, or ``bbox_head`` in one-stage models.
        deformable: Index of the deformable convolution of the towers; -1 for none.
        res2net: Whether the backbone is a Res2Net.
        fcos: Whether the neck is the BiFPN of realtime FCOS, not that of EfficientDet.
        levels: Number of levels of a BiFPN.
    """

    head: str
    deformable: int
    res2net: bool
    fcos: bool
    levels: int

    @property
    def dla(self) -> str:
        """Prefix of the names of a DLA in the reference."""
        # The other BiFPN wraps the backbone to add levels to it.
        return f'{_BOTTOM_UP}backbone.' if self.fcos else _BOTTOM_UP


def their_structure(state_dict: Mapping[str, Tensor]) -> Structure | None:
    """Find the structure from the reference's names; ``None`` if the names are others."""
    if f'{_HEAD}bbox_pred.weight' not in state_dict:
        return None
    fcos = any(key.startswith('backbone.repeated_bifpn.') for key in state_dict)
    three = fcos and 'backbone.repeated_bifpn.0.weights_f4_4_11' not in state_dict
    return Structure(
        'rpn_head' if any(key.startswith('roi_heads.') for key in state_dict) else 'bbox_head',
        _number(state_dict, rf'{re.escape(_HEAD)}bbox_tower\.(\d+)\.offset\.weight') // 3,
        resnet.is_res2net(state_dict),
        fcos,
        3 if three else 5,
    )


def our_structure(state_dict: Mapping[str, Tensor]) -> Structure | None:
    """Find the structure from mmface's names; ``None`` if they are not CenterNet2's."""
    # Other one-stage detectors of mmdet call their classifier conv_cls.
    marks = {'rpn_head': 'scales.0.scale', 'bbox_head': 'cls_logits.weight'}
    head = next((head for head, mark in marks.items() if f'{head}.{mark}' in state_dict), None)
    if head is None:
        return None
    return Structure(
        head,
        _number(state_dict, rf'{head}\.reg_convs\.(\d+)\.conv\.conv_offset\.weight'),
        resnet.is_res2net(state_dict),
        any(re.fullmatch(r'neck\.cells\.0\.laterals\..+\.conv\.bias', key) for key in state_dict),
        5 if 'neck.cells.0.nodes.7.weights' in state_dict else 3,
    )


def layer_names(structure: Structure) -> Iterator[tuple[str, str]]:
    """Pair the reference's names with mmface's.

    Args:
        structure: Structure of the model. Optional layers are paired too.

    Yields:
        Names of a layer, or of a tensor if that part of the name also differs. No name occurs
        twice on either side.
    """
    for theirs, ours in resnet.layer_names(structure.res2net):
        yield _BOTTOM_UP + theirs, resnet.PREFIX + ours
    for level in range(3):
        yield f'backbone.fpn_lateral{level + 3}', f'neck.lateral_convs.{level}.conv'
        yield f'backbone.fpn_output{level + 3}', f'neck.fpn_convs.{level}.conv'
    for level in (3, 4):
        yield f'backbone.top_block.p{level + 3}', f'neck.fpn_convs.{level}.conv'
    yield from _fcos_bifpn(structure.levels) if structure.fcos else _efficientdet_bifpn()
    yield from _dense_head(structure)
    # Cascades number their stages; a single stage has no number.
    for stage in ('', *(f'{number}.' for number in range(_STAGES))):
        for layer in (1, 2):
            yield (
                f'roi_heads.box_head.{stage}fc{layer}',
                f'roi_head.bbox_head.{stage}shared_fcs.{layer - 1}',
            )
        ours = f'roi_head.bbox_head.{stage}'
        yield f'roi_heads.box_predictor.{stage}cls_score', f'{ours}fc_cls'
        yield f'roi_heads.box_predictor.{stage}bbox_pred', f'{ours}fc_reg'


def _dense_head(structure: Structure) -> Iterator[tuple[str, str]]:
    head = structure.head
    for theirs, ours in (('bbox_tower', 'reg_convs'), ('cls_tower', 'cls_convs')):
        for conv in range(_MAX_CONVS):
            their_conv, our_conv = f'{_HEAD}{theirs}.{3 * conv}', f'{head}.{ours}.{conv}.conv'
            if conv == structure.deformable:
                yield f'{their_conv}.offset', f'{our_conv}.conv_offset'
                their_conv += '.conv'
            yield their_conv, our_conv
            yield f'{_HEAD}{theirs}.{3 * conv + 1}', f'{head}.{ours}.{conv}.gn'
    yield f'{_HEAD}bbox_pred', f'{head}.conv_reg'
    yield f'{_HEAD}agn_hm', f'{head}.conv_cls'
    yield f'{_HEAD}cls_logits', f'{head}.cls_logits'
    for level in range(_LEVELS):
        yield f'{_HEAD}scales.{level}', f'{head}.scales.{level}'


def _fcos_bifpn(levels: int) -> Iterator[tuple[str, str]]:
    """Pair the names of the BiFPN that has one convolution per source map and target level."""
    yield f'{_BOTTOM_UP}dla6.reduction', 'neck.extra.0.conv'
    yield f'{_BOTTOM_UP}dla6.reduction.norm', 'neck.extra.0.gn'
    for cell in range(_MAX_CELLS):
        theirs, ours = f'backbone.repeated_bifpn.{cell}', f'neck.cells.{cell}'
        laterals = set()
        for number, (level, sources) in enumerate(bifpn_nodes(levels)):
            laterals |= {(source, level) for source in sources}
            name = '_'.join(map(str, (f'f{level}', *sources)))
            yield f'{theirs}.weights_{name}', f'{ours}.nodes.{number}.weights'
            yield f'{theirs}.outputs_{name}', f'{ours}.nodes.{number}.out.conv'
            yield f'{theirs}.outputs_{name}.norm', f'{ours}.nodes.{number}.out.gn'
        for source, level in sorted(laterals):
            lateral = f'{ours}.laterals.{source}_{level}'
            yield f'{theirs}.lateral_{source}_f{level}', f'{lateral}.conv'
            yield f'{theirs}.lateral_{source}_f{level}.norm', f'{lateral}.gn'


def _efficientdet_bifpn() -> Iterator[tuple[str, str]]:
    """Pair the names of the BiFPN that has one convolution per edge and always five levels."""
    yield 'backbone.resample.3.conv.conv', 'neck.extra.0.conv'
    yield 'backbone.resample.3.conv.bn', 'neck.extra.0.gn'
    for cell in range(_MAX_CELLS):
        for number, (_, sources) in enumerate(bifpn_nodes(_LEVELS)):
            theirs = f'backbone.cell.{cell}.fnode.{number}'
            ours = f'neck.cells.{cell}.nodes.{number}'
            yield f'{theirs}.combine.edge_weights', f'{ours}.weights'
            yield f'{theirs}.after_combine.conv.conv', f'{ours}.out.conv'
            yield f'{theirs}.after_combine.conv.bn', f'{ours}.out.gn'
            for source in sources:
                lateral = f'neck.cells.{cell}.laterals.{source}_{number}'
                yield f'{theirs}.combine.resample.{source}.conv.conv', f'{lateral}.conv'
                yield f'{theirs}.combine.resample.{source}.conv.bn', f'{lateral}.gn'


def _number(state_dict: Mapping[str, Tensor], pattern: str) -> int:
    """Return the number in the first key that matches the pattern, or -1 if none matches."""
    found = (re.fullmatch(pattern, key) for key in state_dict)
    return next((int(match[1]) for match in found if match), -1)
