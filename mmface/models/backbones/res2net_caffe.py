# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Res2Net as CenterNet2 uses it."""

from __future__ import annotations

from typing import Any

from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.models.backbones import Res2Net
from mmdet.registry import MODELS
from torch import nn


@MODELS.register_module()
class Res2NetCaffe(Res2Net):
    """mmdet's ``Res2Net`` with stride 2 in the first 1x1 convolution of a stage.

    CenterNet2's Res2Net configs keep detectron2's ``STRIDE_IN_1X1: True``. The ImageNet weights
    were trained with the stride in the 3x3 convolutions and a pooled last split, and mmdet always
    builds that, whatever ``style`` says. The names of the weights are the same.

    The reference's deformable convolutions predict offsets without a bias; mmcv's have a bias.
    Here it stays 0, so that weights trained here can be converted back to the reference.
    """

    def make_res_layer(self, **kwargs: Any) -> nn.Sequential:
        """Build a stage.

        Args:
            **kwargs: Arguments of mmdet's ``Res2Layer``.

        Returns:
            The stage's blocks.
        """
        stage = super().make_res_layer(**{**kwargs, 'style': 'caffe'})
        for module in stage.modules():
            if isinstance(module, ModulatedDeformConv2dPack):
                module.conv_offset.bias.requires_grad_(False)
        return stage
