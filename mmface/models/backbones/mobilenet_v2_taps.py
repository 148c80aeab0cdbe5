# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The inverted-residual backbone of CenterFace."""

from __future__ import annotations

from mmcv.cnn import ConvModule
from mmdet.models.layers import InvertedResidual
from mmdet.models.utils import make_divisible
from mmdet.registry import MODELS
from torch import Tensor, nn

from mmface.models.backbones.freezable import FreezableBackbone

#: Expansion, channels at width 1, number of blocks and stride of the first block, from table 2
#: of MobileNetV2 (arXiv 1801.04381).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
#: The stages whose output is returned: the last stage of each stride 4, 8, 16 and 32.
TAPS = (1, 2, 4, 6)


@MODELS.register_module()
class MobileNetV2Taps(FreezableBackbone):
    """MobileNetV2 that ends with its last stage and returns four maps.

    mmdet's ``MobileNetV2`` always has a last 1x1 convolution to 1280 channels. CenterFace does
    not use it, and its 412,160 parameters without a gradient stop distributed training.

    Args:
        width: Factor of all channel counts, which are rounded to multiples of 8.
        act_cfg: Activation. ``ReLU6`` is used by the models of chenjun2hao, Ascend and MindSpore
            and by ImageNet weights, ``ReLU`` by the released network of Star-Clouds.
        init_cfg: mmengine initialisation; by default Kaiming-normal (fan out) convolutions
            and unit norms.
        frozen_stages: The stem (0) and stages up to this number are not trained; -1: all are.
            The seven stages are those of ``STAGES``.
        norm_eval: Whether the statistics of all batch norms stay as they are.

    Attributes:
        out_channels: Channels of the returned maps, (24, 32, 96, 320) at width 1.

    Raises:
        ValueError: ``width`` is not positive.
    """

    def __init__(
        self,
        width: float = 1.0,
        act_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
    ) -> None:
        if not width > 0:
            raise ValueError(f'the width of MobileNetV2Taps must be positive, got {width}')
        default: list[dict] = [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
        ]
        super().__init__(frozen_stages, norm_eval, init_cfg or default)
        act_cfg = act_cfg or dict(type='ReLU6')
        norm_cfg = dict(type='BN')
        channels = make_divisible(32 * width, 8)
        self.stem = ConvModule(
            3, channels, 3, stride=2, padding=1, norm_cfg=norm_cfg, act_cfg=act_cfg
        )
        self.stages = nn.ModuleList()
        widths = []
        for expansion, base, blocks, stride in STAGES:
            wanted = make_divisible(base * width, 8)
            stage = nn.Sequential()
            for block in range(blocks):
                stage.append(
                    InvertedResidual(
                        channels,
                        wanted,
                        mid_channels=channels * expansion,
                        stride=stride if block == 0 else 1,
                        with_expand_conv=expansion != 1,
                        norm_cfg=norm_cfg,
                        act_cfg=act_cfg,
                    )
                )
                channels = wanted
            self.stages.append(stage)
            widths.append(channels)
        self.out_channels = tuple(widths[stage] for stage in TAPS)
        self._freeze()

    def _stages(self) -> list[list[nn.Module]]:
        return [[self.stem], *([stage] for stage in self.stages)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the four maps.

        Args:
            x: Images from the data preprocessor, (B, 3, H, W).

        Returns:
            Maps (B, C, H / s, W / s) for s in 4, 8, 16 and 32. They are the linear outputs of
            the last blocks, with shortcuts added.
        """
        x = self.stem(x)
        outs = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in TAPS:
                outs.append(x)
        return tuple(outs)
