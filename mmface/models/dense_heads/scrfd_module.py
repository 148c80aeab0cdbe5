# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The network of the SCRFD head, without losses and decoding."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule, Scale
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

RawMaps = tuple[list[Tensor], list[Tensor], list[Tensor]]


@MODELS.register_module()
class SCRFDModule(BaseModule):
    """Predict raw face scores, box distances and keypoints at every prior.

    One tower of convolutions serves all outputs. This is the module that is exported.

    Args:
        in_channels: Channels of the neck's maps.
        feat_channels: Channels inside the tower.
        stacked_convs: Units in the tower.
        norm_cfg: Norm of the tower, e.g. ``dict(type='GN', num_groups=16)``.
        dw_conv: Whether the tower's units are depthwise-separable.
        share_strides: Whether all strides share one tower and predictors (GroupNorm models)
            or each stride has its own (BatchNorm models, whose statistics differ by stride).
        scale_boxes: Whether each stride has a learnable factor for the box distances.
        num_strides: Number of feature maps.
        num_priors: Priors per cell.
        num_classes: Number of classes.
        num_keypoints: Keypoints per face, 0 for none.
        init_cfg: mmengine initialisation; by default normal(0, 0.01) convolutions and a score
            bias of -4.595, which is a prior probability of 0.01.
    """

    def __init__(
        self,
        in_channels: int,
        feat_channels: int,
        stacked_convs: int,
        norm_cfg: dict,
        dw_conv: bool = False,
        share_strides: bool = False,
        scale_boxes: bool = True,
        num_strides: int = 3,
        num_priors: int = 2,
        num_classes: int = 1,
        num_keypoints: int = 0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(
            init_cfg=init_cfg
            or dict(
                type='Normal',
                layer='Conv2d',
                std=0.01,
                override=dict(type='Normal', name='cls_convs', std=0.01, bias=-4.595),
            )
        )
        self.num_strides = num_strides
        self.num_keypoints = num_keypoints
        heads = 1 if share_strides else num_strides
        unit = DepthwiseSeparableConvModule if dw_conv else ConvModule

        def tower() -> nn.Sequential:
            widths = [in_channels] + [feat_channels] * stacked_convs
            return nn.Sequential(
                *(
                    unit(width, feat_channels, 3, padding=1, norm_cfg=norm_cfg)
                    for width in widths[:-1]
                )
            )

        def predictors(channels: int) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv2d(feat_channels, num_priors * channels, 3, padding=1) for _ in range(heads)
            )

        self.towers = nn.ModuleList(tower() for _ in range(heads))
        self.cls_convs = predictors(num_classes)
        self.reg_convs = predictors(4)
        if num_keypoints:
            self.kps_convs = predictors(2 * num_keypoints)
        self.scales = nn.ModuleList(
            Scale(1.0) if scale_boxes else nn.Identity() for _ in range(num_strides)
        )

    def forward(self, feats: Sequence[Tensor]) -> RawMaps:
        """Compute the raw maps.

        Args:
            feats: One map (B, in_channels, H_l, W_l) per stride.

        Returns:
            Three lists with one map per stride: score logits (B, P * classes, H_l, W_l), box
            distances left, top, right, bottom in units of the stride (B, P * 4, H_l, W_l),
            and keypoint offsets x, y in units of the stride (B, P * 2K, H_l, W_l). The P priors
            are outermost among the channels. The third list is empty without keypoints.
        """
        cls_scores, bbox_preds, kps_preds = [], [], []
        for level, feat in enumerate(feats):
            head = level % len(self.towers)
            feat = self.towers[head](feat)
            cls_scores.append(self.cls_convs[head](feat))
            bbox_preds.append(self.scales[level](self.reg_convs[head](feat)))
            if self.num_keypoints:
                kps_preds.append(self.kps_convs[head](feat))
        return cls_scores, bbox_preds, kps_preds
