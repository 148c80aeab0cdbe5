# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The residual backbone of SCRFD."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.layers import ResLayer
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

_BLOCKS = {'basic': (BasicBlock, 'norm2'), 'bottleneck': (Bottleneck, 'norm3')}


@MODELS.register_module()
class ResNetV1e(BaseModule):
    """ResNet with a deep stem, average-pool shortcuts and a free shape per stage.

    It differs from ResNet-V1d in two things: the pool after the stem is 2x2 with stride 2
    and no padding, and the number of blocks and channels of every stage is given
    (SCRFD's search result). Shortcuts average-pool before their 1x1 convolution.

    Args:
        stage_blocks: Number of residual blocks in each of the four stages.
        stage_planes: Channels of the 3x3 convolutions of each stage. A stage puts out
            these channels (``basic``) or four times as many (``bottleneck``).
        base_channels: Channels the three stem convolutions end with; the first two have
            half of them.
        block: ``'basic'`` (two 3x3) or ``'bottleneck'`` (1x1, 3x3, 1x1).
        out_indices: Stages whose output is returned (0 is stage 1, stride 4).
        init_cfg: mmengine initialisation; Kaiming-normal (fan out) convolutions, unit
            norms by default. The last norm of each block starts at zero.

    Raises:
        ValueError: If the block is unknown or the stages are not four.
    """

    def __init__(
        self,
        stage_blocks: Sequence[int],
        stage_planes: Sequence[int],
        base_channels: int,
        block: str = 'basic',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if block not in _BLOCKS:
            raise ValueError(f'block must be one of {sorted(_BLOCKS)}, got {block!r}')
        if len(stage_blocks) != 4 or len(stage_planes) != 4:
            raise ValueError(
                'ResNetV1e needs 4 stage_blocks and 4 stage_planes, '
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
        half = base_channels // 2
        self.stem = nn.Sequential(
            *self._stem_unit(3, half, stride=2),
            *self._stem_unit(half, half),
            *self._stem_unit(half, base_channels),
        )
        self.maxpool = nn.MaxPool2d(kernel_size=2, stride=2)
        block_class, last_norm = _BLOCKS[block]
        in_channels = base_channels
        for stage, (blocks, planes) in enumerate(zip(stage_blocks, stage_planes, strict=True)):
            layer = ResLayer(
                block_class,
                in_channels,
                planes,
                blocks,
                stride=1 if stage == 0 else 2,
                avg_down=True,
                init_cfg=dict(type='Constant', val=0, override=dict(name=last_norm)),
            )
            in_channels = planes * block_class.expansion
            self.add_module(f'layer{stage + 1}', layer)

    @staticmethod
    def _stem_unit(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
        return [
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the stage outputs.

        Args:
            x: Normalised pictures, (B, 3, H, W).

        Returns:
            One map (B, C, H / 2^(i+2), W / 2^(i+2)) for each ``i`` of ``out_indices``.
        """
        x = self.maxpool(self.stem(x))
        outs = []
        for stage in range(4):
            x = getattr(self, f'layer{stage + 1}')(x)
            if stage in self.out_indices:
                outs.append(x)
        return tuple(outs)
