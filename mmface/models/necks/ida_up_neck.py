# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The up-sampling neck of CenterFace."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

# Epsilon of all norms except the last one, as in the references (chenjun2hao, MindSpore).
_EPS = 1e-3


class _Upsample(nn.Module):
    """Double both sides: 2x2 transposed convolution of stride 2, norm, ReLU."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(channels, channels, 2, 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=_EPS)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.deconv(x)))


@MODELS.register_module()
class IDAUpNeck(BaseModule):
    """Join four maps, from the coarsest to the finest, into one of stride 4.

    The coarsest map is reduced to ``out_channels``. Then, three times, it is doubled in size and
    the next finer map, also reduced, is added. A 3x3 convolution follows.

    Args:
        in_channels: Channels of the maps of strides 4, 8, 16 and 32, in this order.
        out_channels: Width of the neck: 24 (Star-Clouds) or 64 (chenjun2hao, Ascend,
            MindSpore, which call it ``head_conv``).
        depthwise: Whether the transposed convolutions have a kernel per channel (chenjun2hao,
            Ascend) or are dense (Star-Clouds, MindSpore).
        init_cfg: mmengine initialisation; by default Kaiming-normal convolutions and unit
            norms.

    Raises:
        ValueError: There are not four maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 24,
        depthwise: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if len(in_channels) != 4:
            raise ValueError(
                'IDAUpNeck needs the channels of 4 maps (strides 4, 8, 16, 32), got '
                f'{list(in_channels)}'
            )
        default = [
            dict(type='Kaiming', layer='Conv2d'),
            # torch computes the fan-in of a transposed convolution from its output channels.
            dict(type='Kaiming', layer='ConvTranspose2d', mode='fan_in'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
        ]
        super().__init__(init_cfg=init_cfg or default)
        *finer, coarsest = in_channels
        norm_cfg = dict(type='BN', eps=_EPS)
        self.top = ConvModule(coarsest, out_channels, 1, norm_cfg=norm_cfg)
        self.laterals = nn.ModuleList(
            ConvModule(width, out_channels, 1, norm_cfg=norm_cfg) for width in reversed(finer)
        )
        groups = out_channels if depthwise else 1
        self.ups = nn.ModuleList(_Upsample(out_channels, groups) for _ in finer)
        norm_cfg = dict(type='BN', eps=1e-5, momentum=0.01)
        self.last = ConvModule(out_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor]:
        """Compute the joined map.

        Args:
            inputs: Maps (B, C, H / s, W / s) for s in 4, 8, 16 and 32; H and W are multiples
                of 32.

        Returns:
            One map (B, out_channels, H / 4, W / 4).
        """
        *finer, coarsest = inputs
        x = self.top(coarsest)
        for up, lateral, feat in zip(self.ups, self.laterals, reversed(finer), strict=True):
            x = up(x) + lateral(feat)
        return (self.last(x),)
