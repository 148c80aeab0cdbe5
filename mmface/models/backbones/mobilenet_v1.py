# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The depthwise-separable backbone of the small SCRFD models."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.registry import MODELS
from torch import nn

from mmface.models.backbones.staged_backbone import StagedBackbone, conv_norm_relu


def _separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        *conv_norm_relu(in_channels, in_channels, stride=stride, groups=in_channels),
        *conv_norm_relu(in_channels, out_channels, kernel_size=1),
    )


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """MobileNet V1 with a free number of units and channels per stage.

    The stem is a 3x3 convolution of stride 2 and one depthwise-separable unit. Each of the
    four stages starts with a unit of stride 2. The outputs have strides 4, 8, 16 and 32.

    Args:
        stage_blocks: Number of depthwise-separable units in each of the four stages.
        stage_planes: Six channel counts: first convolution, stem unit, stages 1 to 4.
        out_indices: Stages whose output is returned (0 is stage 1).
        init_cfg: mmengine initialisation, see ``StagedBackbone``; the default is that of the
            reference (insightface ``mobilenet.py``).
        frozen_stages: The stem (0) and stages up to this number are not trained; -1: all are.
        norm_eval: Whether the statistics of all batch norms stay as they are.

    Raises:
        ValueError: ``stage_blocks`` does not have 4 numbers, or ``stage_planes`` not 6.
    """

    def __init__(
        self,
        stage_blocks: Sequence[int],
        stage_planes: Sequence[int],
        out_indices: Sequence[int] = (0, 1, 2, 3),
        init_cfg: dict | list[dict] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
    ) -> None:
        if len(stage_blocks) != 4 or len(stage_planes) != 6:
            raise ValueError(
                'MobileNetV1 needs 4 stage_blocks and 6 stage_planes, '
                f'got {list(stage_blocks)} and {list(stage_planes)}'
            )
        super().__init__(out_indices, init_cfg, frozen_stages, norm_eval)
        self.stem = nn.Sequential(
            nn.Sequential(*conv_norm_relu(3, stage_planes[0], stride=2)),
            _separable(stage_planes[0], stage_planes[1], stride=1),
        )
        for stage, blocks in enumerate(stage_blocks, start=1):
            width = stage_planes[stage + 1]
            units = [_separable(stage_planes[stage], width, stride=2)]
            units += [_separable(width, width, stride=1) for _ in range(blocks - 1)]
            self.add_module(f'layer{stage}', nn.Sequential(*units))
        self._freeze()
