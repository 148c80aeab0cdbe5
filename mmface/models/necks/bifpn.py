# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The weighted bidirectional feature pyramid, in both variants of CenterNet2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

KINDS = ('efficientdet', 'fcos')
# Added to the sum of the fusion weights (EfficientDet, section 3.3).
_EPS = 1e-4


def bifpn_nodes(num_levels: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """List the nodes of a cell: first down from the coarsest level, then up again.

    Args:
        num_levels: Number of levels, at least 2.

    Returns:
            Per node, in the order of computation: its level (0 is the finest) and the indices of
            the maps it joins. Maps 0 to ``num_levels - 1`` are the inputs of the cell, later ones
            are the outputs of the nodes (EfficientDet, figure 2d).
    """
    top = num_levels - 1
    nodes: list[tuple[int, tuple[int, ...]]] = []
    newest = {top: top}  # The most recent map of each level.
    for level in range(top - 1, -1, -1):
        nodes.append((level, (level, newest[level + 1])))
        newest[level] = top + len(nodes)
    for level in range(1, top):
        nodes.append((level, (level, newest[level], newest[level - 1])))
        newest[level] = top + len(nodes)
    nodes.append((top, (top, newest[top - 1])))
    return tuple(nodes)


def _halve(x: Tensor, pool_size: int) -> Tensor:
    """Halve both sides by max pooling of 2x2 (rounded down) or 3x3 cells (rounded up)."""
    return F.max_pool2d(x, pool_size, 2, padding=(pool_size - 1) // 2)


class _Node(nn.Module):
    """Fuse maps of one size with learned, normalised weights; then swish, 3x3 convolution, norm."""

    def __init__(self, num_inputs: int, channels: int, norm_cfg: dict) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_inputs))
        self.out = ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        # In float32: half precision would lose the small number that prevents a division by zero.
        weights = self.weights.float().relu()
        weights = (weights / (weights.sum() + _EPS)).to(maps[0].dtype)
        fused = sum(x * weight for x, weight in zip(maps, weights, strict=True))
        return self.out(F.silu(fused))


class _Cell(nn.Module):
    """One pass down and up the pyramid."""

    def __init__(
        self, in_channels: Sequence[int], channels: int, kind: str, norm_cfg: dict
    ) -> None:
        super().__init__()
        self.num_levels = len(in_channels)
        self.pool_size = 3 if kind == 'fcos' else 2
        self.plan = bifpn_nodes(self.num_levels)
        # The lateral convolution of each edge. With kind 'efficientdet' each edge has its own;
        # with 'fcos', edges from one map to the same level share it.
        self.lateral_names: dict[tuple[int, int], str] = {}
        self.laterals = nn.ModuleDict()
        self.nodes = nn.ModuleList()
        for number, (level, sources) in enumerate(self.plan):
            for source in sources:
                width = in_channels[source] if source < self.num_levels else channels
                if width == channels:
                    continue
                name = f'{source}_{level if kind == "fcos" else number}'
                self.lateral_names[number, source] = name
                if name not in self.laterals:
                    self.laterals[name] = ConvModule(
                        width, channels, 1, bias=kind == 'fcos', norm_cfg=norm_cfg, act_cfg=None
                    )
            self.nodes.append(_Node(len(sources), channels, norm_cfg))

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        maps = list(inputs)
        levels = [*range(self.num_levels), *(level for level, _ in self.plan)]
        newest = maps[:]
        for number, ((level, sources), node) in enumerate(zip(self.plan, self.nodes, strict=True)):
            joined = []
            for source in sources:
                x = maps[source]
                if (number, source) in self.lateral_names:
                    x = self.laterals[self.lateral_names[number, source]](x)
                if levels[source] > level:
                    x = F.interpolate(x, size=maps[level].shape[-2:])
                elif levels[source] < level:
                    x = _halve(x, self.pool_size)
                joined.append(x)
            maps.append(node(joined))
            newest[level] = maps[-1]
        return newest


@MODELS.register_module()
class BiFPN(BaseModule):
    """BiFPN (EfficientDet, arXiv 1911.09070) with 3x3 convolutions, as used in CenterNet2.

    A cell passes features from coarse maps to fine ones and back. Each node has a learned weight
    per input; negative weights become 0, and all are divided by their sum. Levels beyond the maps
    of the backbone are made from its last map by a 1x1 convolution with norm, then max pooling.

    The two kinds differ in two things. ``efficientdet`` pools 2x2 cells and has a 1x1 convolution
    for each edge between maps of different widths. ``fcos`` (realtime FCOS) pools 3x3 cells, and
    edges from one map to the same level share their convolution, which has a bias.

    Args:
        in_channels: Channels of the backbone's maps, finest first; strides double.
        out_channels: Channels of the pyramid.
        num_outs: Number of levels.
        num_cells: Number of passes down and up.
        kind: ``efficientdet`` or ``fcos``.
        norm_cfg: Norm after convolutions, by default GroupNorm with 32 groups.
        init_cfg: mmengine initialisation; by default torch's own for convolutions
            (Kaiming-uniform with a^2 = 5), but without biases, as in the references.

    Raises:
        ValueError: ``kind`` is unknown, or there are too few levels or cells.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 160,
        num_outs: int = 5,
        num_cells: int = 3,
        kind: str = 'efficientdet',
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f'kind of BiFPN must be one of {KINDS}, got {kind!r}')
        if num_cells < 1 or not in_channels or num_outs < max(2, len(in_channels)):
            raise ValueError(
                'BiFPN needs at least 1 cell, 2 levels and one level per map of the backbone, '
                f'got num_cells={num_cells}, num_outs={num_outs} and '
                f'{len(in_channels)} maps'
            )
        default = dict(
            type='Kaiming', layer='Conv2d', a=5**0.5, mode='fan_in', distribution='uniform'
        )
        super().__init__(init_cfg=init_cfg or [dict(default, nonlinearity='leaky_relu')])
        norm_cfg = norm_cfg or dict(type='GN', num_groups=32)
        self.pool_size = 3 if kind == 'fcos' else 2
        widths = list(in_channels)
        self.extra = nn.ModuleList()
        for _ in range(num_outs - len(in_channels)):
            if widths[-1] == out_channels:
                self.extra.append(nn.Identity())
            else:
                self.extra.append(
                    ConvModule(widths[-1], out_channels, 1, norm_cfg=norm_cfg, act_cfg=None)
                )
            widths.append(out_channels)
        self.cells = nn.ModuleList()
        for _ in range(num_cells):
            self.cells.append(_Cell(widths, out_channels, kind, norm_cfg))
            widths = [out_channels] * num_outs

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the pyramid.

        Args:
            inputs: The backbone's maps (B, C_l, H_l, W_l), finest first. From map to map, also
                for the added levels, sides must halve without a remainder. This holds if images
                are padded to multiples of the last stride.

        Returns:
            ``num_outs`` maps (B, out_channels, H_l, W_l).
        """
        maps = list(inputs)
        for extra in self.extra:
            maps.append(_halve(extra(maps[-1]), self.pool_size))
        for cell in self.cells:
            maps = cell(maps)
        return tuple(maps)
