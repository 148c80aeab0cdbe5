# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The network of the CenterFace head, without losses and decoding."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.registry import MODELS
from mmengine.model import BaseModule, bias_init_with_prob
from torch import Tensor, nn

RawMaps = tuple[Tensor, ...]


@MODELS.register_module()
class CenterFaceModule(BaseModule):
    """Predict heatmap, size, offset and keypoints at every cell by four 1x1 convolutions.

    ``CenterFaceCoder`` defines the meaning of size, offset and keypoints. This is the module
    that is exported (with a sigmoid on the heatmap).

    Args:
        in_channels: Channels of the neck's map.
        num_classes: Number of classes.
        num_keypoints: Keypoints per face, 0 for none.
        prior_prob: Heatmap score of every cell at the start of training. None of the references
            has such a bias in effect: they start at 0.5, with a first loss of a thousand.
        init_cfg: mmengine initialisation; by default normal(0, 0.001) and that bias.

    Raises:
        ValueError: ``prior_prob`` is not inside (0, 1).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 1,
        num_keypoints: int = 5,
        prior_prob: float = 0.1,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if not 0 < prior_prob < 1:
            raise ValueError(f'prior_prob must be inside (0, 1), got {prior_prob}')
        bias = bias_init_with_prob(prior_prob)
        default = dict(
            type='Normal',
            layer='Conv2d',
            std=0.001,
            override=dict(type='Normal', name='heatmap', std=0.001, bias=bias),
        )
        super().__init__(init_cfg=init_cfg or default)
        self.num_keypoints = num_keypoints
        self.heatmap = nn.Conv2d(in_channels, num_classes, 1)
        self.size = nn.Conv2d(in_channels, 2, 1)
        self.offset = nn.Conv2d(in_channels, 2, 1)
        if num_keypoints:
            self.keypoints = nn.Conv2d(in_channels, 2 * num_keypoints, 1)

    def forward(self, feats: Sequence[Tensor]) -> RawMaps:
        """Compute the raw maps.

        Args:
            feats: The single map of the neck, (B, in_channels, H, W).

        Returns:
            Heatmap logits (B, classes, H, W), size (B, 2, H, W), offset (B, 2, H, W) and, with
            keypoints, keypoints (B, 2K, H, W).
        """
        (feat,) = feats
        maps = (self.heatmap(feat), self.size(feat), self.offset(feat))
        return (*maps, self.keypoints(feat)) if self.num_keypoints else maps
