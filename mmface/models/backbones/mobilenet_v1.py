# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The depthwise-separable backbone of the small SCRFD models."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn


def _conv3x3(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


def _separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


@MODELS.register_module()
class MobileNetV1(BaseModule):
    """MobileNet V1 with a free number of units and channels per stage.

    The stem is a 3x3 convolution of stride 2 and one depthwise-separable unit; each of
    the four stages starts with a unit of stride 2, so that the outputs have strides 4,
    8, 16 and 32.

    Args:
        stage_blocks: Number of depthwise-separable units in each of the four stages.
        stage_planes: Six channel counts: first convolution, stem unit, stages 1 to 4.
        out_indices: Stages whose output is returned (0 is stage 1).
        init_cfg: mmengine initialisation; Kaiming-normal (fan out) convolutions and unit
            norms by default, as in the reference (insightface ``mobilenet.py``).

    Raises:
        ValueError: If ``stage_blocks`` has not four or ``stage_planes`` not six numbers.
    """

    def __init__(
        self,
        stage_blocks: Sequence[int],
        stage_planes: Sequence[int],
        out_indices: Sequence[int] = (0, 1, 2, 3),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if len(stage_blocks) != 4 or len(stage_planes) != 6:
            raise ValueError(
                'MobileNetV1 needs 4 stage_blocks and 6 stage_planes, '
                f'got {list(stage_blocks)} and {list(stage_planes)}'
            )
        super().__init__(
            init_cfg=init_cfg
            or [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer='_BatchNorm'),
            ]
        )
        self.out_indices = tuple(out_indices)
        self.stem = nn.Sequential(
            nn.Sequential(*_conv3x3(3, stage_planes[0], stride=2)),
            _separable(stage_planes[0], stage_planes[1], stride=1),
        )
        for stage, blocks in enumerate(stage_blocks, start=1):
            width = stage_planes[stage + 1]
            units = [_separable(stage_planes[stage], width, stride=2)]
            units += [_separable(width, width, stride=1) for _ in range(blocks - 1)]
            self.add_module(f'layer{stage}', nn.Sequential(*units))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the stage outputs.

        Args:
            x: Normalised pictures, (B, 3, H, W).

        Returns:
            One map (B, C, H / 2^(i+2), W / 2^(i+2)) for each ``i`` of ``out_indices``.
        """
        x = self.stem(x)
        outs = []
        for stage in range(4):
            x = getattr(self, f'layer{stage + 1}')(x)
            if stage in self.out_indices:
                outs.append(x)
        return tuple(outs)
