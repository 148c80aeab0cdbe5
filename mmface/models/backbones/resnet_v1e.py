# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The residual backbone of SCRFD."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.layers import ResLayer
from mmdet.registry import MODELS
from torch import nn

from mmface.models.backbones.lean_stem import LeanStem
from mmface.models.backbones.staged_backbone import StagedBackbone, conv_norm_relu

_BLOCKS = {'basic': (BasicBlock, 'norm2'), 'bottleneck': (Bottleneck, 'norm3')}


@MODELS.register_module()
class ResNetV1e(StagedBackbone):
    """ResNet with a deep stem, average-pool shortcuts and a free shape per stage.

    It differs from ResNet-V1d in two things. The pool after the stem is 2x2 with stride 2 and
    no padding. The number of blocks and channels of each stage is an argument (SCRFD's search
    result). Shortcuts average-pool before their 1x1 convolution.

    Args:
        stage_blocks: Number of residual blocks in each of the four stages.
        stage_planes: Channels of the 3x3 convolutions of each stage. The output of a stage has
            these channels (``basic``) or four times as many (``bottleneck``).
        base_channels: Output channels of the stem, which has three convolutions. The first two
            have half of these channels.
        block: ``'basic'`` (two 3x3) or ``'bottleneck'`` (1x1, 3x3, 1x1).
        out_indices: Stages whose output is returned (0 is stage 1, stride 4).
        init_cfg: mmengine initialisation, see ``StagedBackbone``. The last norm of each block
            starts at zero.
        frozen_stages: The stem (0) and stages up to this number are not trained; -1: all are.
        norm_eval: Whether the statistics of all batch norms stay as they are.

    Raises:
        ValueError: ``block`` is unknown or there are not four stages.
    """

    def __init__(
        self,
        stage_blocks: Sequence[int],
        stage_planes: Sequence[int],
        base_channels: int,
        block: str = 'basic',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        init_cfg: dict | list[dict] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
    ) -> None:
        if block not in _BLOCKS:
            raise ValueError(f'block must be one of {sorted(_BLOCKS)}, got {block!r}')
        if len(stage_blocks) != 4 or len(stage_planes) != 4:
            raise ValueError(
                'ResNetV1e needs 4 stage_blocks and 4 stage_planes, '
                f'got {list(stage_blocks)} and {list(stage_planes)}'
            )
        super().__init__(out_indices, init_cfg, frozen_stages, norm_eval)
        half = base_channels // 2
        conv, norm, relu = conv_norm_relu(half, base_channels)
        self.stem = LeanStem(
            *conv_norm_relu(3, half, stride=2),
            *conv_norm_relu(half, half),
            *(conv, norm, nn.MaxPool2d(kernel_size=2, stride=2), relu),
        )
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
        self._freeze()
