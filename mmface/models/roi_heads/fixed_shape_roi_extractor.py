# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""RoI pooling over a pyramid with shapes that do not depend on the boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class FixedShapeRoIExtractor(SingleRoIExtractor):
    """Pool each box from the level that fits its size, in fixed shapes on request.

    ``SingleRoIExtractor`` gathers the boxes of a level, whose number depends on the data. With
    fixed shapes every level pools all boxes; boxes of other levels are replaced by empty boxes,
    for which RoIAlign takes no samples. The results are the same.
    """

    def forward(self, feats: Sequence[Tensor], rois: Tensor, fixed_shape: bool = False) -> Tensor:
        """Pool boxes.

        Args:
            feats: Maps (B, C, H, W) of all levels, float32: ``SingleRoIExtractor`` rounds the
                boxes to the type of the maps, and half precision is too coarse for coordinates.
            rois: (R, 5) index of the image and xyxy in input pixels.
            fixed_shape: Whether shapes must not depend on the values of ``rois``.

        Returns:
            (R, C, h, w).
        """
        if not fixed_shape:
            return super().forward(feats, rois)
        levels = self.map_roi_levels(rois, len(feats))[:, None]
        out = feats[0].new_zeros(len(rois), self.out_channels, *self.roi_layers[0].output_size)
        for level, (pool, feat) in enumerate(zip(self.roi_layers, feats, strict=True)):
            here = levels == level
            pooled = pool(feat, torch.where(here, rois, 0))
            # Use the mask although empty boxes give 0 here: not every device's kernel does so.
            out = torch.where(here[..., None, None], pooled, out)
        return out
