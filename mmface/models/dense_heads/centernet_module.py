# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The network of CenterNet2's dense heads, without losses and decoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule, Scale
from mmengine.model import BaseModule, bias_init_with_prob
from torch import Tensor, nn

RawMaps = tuple[list[Tensor], list[Tensor], list[Tensor]]
# Boxes start with eight strides to each side (CenterNet2 ``centernet_head.py``).
_DISTANCE_BIAS = 8.0


class CenterNetModule(BaseModule):
    """Predict class scores, class-agnostic heatmap and box distances at every cell.

    One tower of convolutions serves boxes and agnostic heatmap, a second one the class scores.
    All levels share the towers. Heads inherit from this class, so that their weights have the
    names of mmdet's dense heads.

    Args:
        in_channels: Channels of the neck's maps, and of the towers.
        num_levels: Number of feature maps.
        num_classes: Number of classes; 0 for no class scores and no tower for them.
        agnostic: Whether to predict a class-agnostic heatmap.
        stacked_convs: Convolutions of each tower.
        norm_cfg: Norm of the towers. Convolutions also have a bias, as in the reference.
        dcn_on_last_conv: Whether the last convolution of each tower is a DCNv2.
        prior_prob: Class and heatmap scores of every cell at the start of training.
        init_cfg: mmengine initialisation; by default normal(0, 0.01) convolutions (not DCNv2) and
            biases of 0, of 8 for box distances, and of -4.595 for class and heatmap scores.
    """

    def __init__(
        self,
        in_channels: int,
        num_levels: int,
        num_classes: int,
        agnostic: bool,
        stacked_convs: int = 4,
        norm_cfg: dict | None = None,
        dcn_on_last_conv: bool = False,
        prior_prob: float = 0.01,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        biases = dict(conv_reg=_DISTANCE_BIAS)
        if agnostic:
            biases['conv_cls'] = bias_init_with_prob(prior_prob)
        if num_classes:
            biases['cls_logits'] = bias_init_with_prob(prior_prob)
        default: dict[str, Any] = dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=[
                dict(type='Normal', name=name, std=0.01, bias=bias) for name, bias in biases.items()
            ],
        )
        super().__init__(init_cfg=init_cfg or default)
        self.num_classes = num_classes
        self.agnostic = agnostic

        def tower() -> nn.Sequential:
            return nn.Sequential(
                *(
                    ConvModule(
                        in_channels,
                        in_channels,
                        3,
                        padding=1,
                        bias=True,
                        conv_cfg=dict(type='DCNv2') if dcn_on_last_conv and last else None,
                        norm_cfg=norm_cfg or dict(type='GN', num_groups=32),
                    )
                    for last in (number == stacked_convs for number in range(1, stacked_convs + 1))
                )
            )

        self.reg_convs = tower()
        self.conv_reg = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in range(num_levels))
        if agnostic:
            self.conv_cls = nn.Conv2d(in_channels, 1, 3, padding=1)
        if num_classes:
            self.cls_convs = tower()
            self.cls_logits = nn.Conv2d(in_channels, num_classes, 3, padding=1)

    def forward(self, feats: Sequence[Tensor]) -> RawMaps:
        """Compute the raw maps.

        Args:
            feats: One map (B, in_channels, H_l, W_l) per level.

        Returns:
            Three lists with one map per level: class logits (B, classes, H_l, W_l), logits of the
            agnostic heatmap (B, 1, H_l, W_l), and box distances left, top, right, bottom in units
            of the stride (B, 4, H_l, W_l), not negative. A list is empty if its output is not
            predicted.
        """
        cls_logits, heat_logits, distances = [], [], []
        for scale, feat in zip(self.scales, feats, strict=True):
            box_feat = self.reg_convs(feat)
            distances.append(scale(self.conv_reg(box_feat)).relu())
            if self.agnostic:
                heat_logits.append(self.conv_cls(box_feat))
            if self.num_classes:
                cls_logits.append(self.cls_logits(self.cls_convs(feat)))
        return cls_logits, heat_logits, distances
