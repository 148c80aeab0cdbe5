# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Deep layer aggregation with 34 layers, the fast backbone of CenterNet2."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmface.models.backbones.freezable import FreezableBackbone

#: Channels of levels 0 to 5, whose strides are 1, 2, 4, 8, 16 and 32.
CHANNELS = (16, 32, 64, 128, 256, 512)
#: Depth of the trees of levels 2 to 5: a tree of depth d joins 2^d blocks.
DEPTHS = {2: 1, 3: 2, 4: 2, 5: 1}


def _conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, norm_cfg: dict, stride: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )
    return [conv, build_norm_layer(norm_cfg, out_channels)[1]]


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut that the caller passes in."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv_norm(in_channels, out_channels, 3, norm_cfg, stride)
        self.conv2, self.bn2 = _conv_norm(out_channels, out_channels, 3, norm_cfg)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class _Tree(nn.Module):
    """Two subtrees in sequence (blocks at depth 1) and a root that joins their outputs.

    Args:
        depth: Number of levels of the tree.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the first block.
        norm_cfg: Norm layers.
        joins_input: Whether the root also reads the pooled input.
        extra_channels: Total channels of the other maps that the root reads (``extra``).
    """

    tree1: nn.Module
    tree2: nn.Module

    def __init__(
        self,
        depth: int,
        in_channels: int,
        out_channels: int,
        stride: int,
        norm_cfg: dict,
        joins_input: bool = False,
        extra_channels: int = 0,
    ) -> None:
        super().__init__()
        self.depth = depth
        self.joins_input = joins_input
        self.downsample = nn.MaxPool2d(stride, stride) if stride > 1 else nn.Identity()
        if joins_input:
            extra_channels += in_channels
        if depth > 1:
            # The reference has a projection here too, but never reads it. Parameters without a
            # gradient stop distributed training.
            self.tree1 = _Tree(depth - 1, in_channels, out_channels, stride, norm_cfg)
            extra_channels += out_channels
            self.tree2 = _Tree(
                depth - 1, out_channels, out_channels, 1, norm_cfg, extra_channels=extra_channels
            )
            return
        self.tree1 = _Block(in_channels, out_channels, stride, norm_cfg)
        self.tree2 = _Block(out_channels, out_channels, 1, norm_cfg)
        conv, norm = _conv_norm(2 * out_channels + extra_channels, out_channels, 1, norm_cfg)
        self.root = nn.Sequential(
            OrderedDict(conv=conv, bn=norm, relu=nn.ReLU(inplace=True)),
        )
        self.project: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.project = nn.Sequential(*_conv_norm(in_channels, out_channels, 1, norm_cfg))

    def forward(self, x: Tensor, extra: tuple[Tensor, ...] = ()) -> Tensor:
        pooled = self.downsample(x)
        if self.joins_input:
            extra = (*extra, pooled)
        if self.depth > 1:
            first = self.tree1(x)
            return self.tree2(first, (*extra, first))
        first = self.tree1(x, self.project(pooled))
        second = self.tree2(first, first)
        return self.root(torch.cat((second, first, *extra), dim=1))


@MODELS.register_module()
class DLA34(FreezableBackbone):
    """DLA-34 (arXiv 1707.06484), with the names of its ImageNet weights ``dla34-ba72cf86.pth``.

    Two parts of that file do not exist here: ``fc``, the classifier, and ``level3.project`` and
    ``level4.project`` (41,728 numbers), which the reference computes but never reads.

    Args:
        out_levels: Levels whose output is returned; level l has stride 2^l and
            ``CHANNELS[l]`` channels.
        norm_cfg: Norm layers; trained batch norm by default. For synchronised batch norm set
            ``sync_bn = 'torch'`` at the top of the config, as for any model.
        init_cfg: mmengine initialisation; by default Kaiming-normal (fan out) convolutions and
            unit norms, as in the reference.
        frozen_stages: The stem (0) and stages up to this number are not trained; -1: all are.
            As in a ResNet, stage 1 is that of stride 4 (level 2). The stem is all before it.
        norm_eval: Whether the statistics of all batch norms stay as they are.

    Attributes:
        out_channels: Channels of the returned maps.

    Raises:
        ValueError: ``out_levels`` is empty, not ascending or not within 0 to 5.
    """

    def __init__(
        self,
        out_levels: Sequence[int] = (3, 4, 5),
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
    ) -> None:
        levels = tuple(out_levels)
        if not levels or levels != tuple(sorted(set(levels) & set(range(len(CHANNELS))))):
            raise ValueError(
                f'out_levels of DLA34 must be ascending numbers from 0 to 5, got {list(levels)}'
            )
        default: list[dict] = [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
        ]
        super().__init__(frozen_stages, norm_eval, init_cfg or default)
        norm_cfg = norm_cfg or dict(type='BN')
        self.out_levels = levels
        self.out_channels = tuple(CHANNELS[level] for level in levels)
        self.base_layer = nn.Sequential(*_conv_norm(3, 16, 7, norm_cfg), nn.ReLU(inplace=True))
        self.level0 = nn.Sequential(*_conv_norm(16, 16, 3, norm_cfg), nn.ReLU(inplace=True))
        self.level1 = nn.Sequential(*_conv_norm(16, 32, 3, norm_cfg, 2), nn.ReLU(inplace=True))
        for level in range(2, levels[-1] + 1):
            below, channels = CHANNELS[level - 1 : level + 1]
            # Level 2 is the first tree: there are no features of a tree below to carry on.
            tree = _Tree(DEPTHS[level], below, channels, 2, norm_cfg, joins_input=level > 2)
            self.add_module(f'level{level}', tree)
        self._freeze()

    def _stages(self) -> list[list[nn.Module]]:
        stem = [getattr(self, name) for name in ('base_layer', 'level0', 'level1')]
        trees = [getattr(self, f'level{level}') for level in range(2, self.out_levels[-1] + 1)]
        return [stem, *([tree] for tree in trees)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps.

        Args:
            x: Normalised images (B, 3, H, W); H and W are multiples of 2^(last level).

        Returns:
            One map (B, CHANNELS[l], H / 2^l, W / 2^l) for each l of ``out_levels``.
        """
        x = self.base_layer(x)
        outs = []
        for level in range(self.out_levels[-1] + 1):
            x = getattr(self, f'level{level}')(x)
            if level in self.out_levels:
                outs.append(x)
        return tuple(outs)
