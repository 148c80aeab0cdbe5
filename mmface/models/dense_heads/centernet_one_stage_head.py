# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterNet2's one-stage detectors, such as CenterNet-FPN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from mmface.models.dense_heads.centernet_base_head import CenterNetBaseHead
from mmface.models.task_modules.original_image import keep_inside, to_original
from mmface.models.task_modules.proposal_selection import suppress_rows


@MODELS.register_module()
class CenterNetOneStageHead(CenterNetBaseHead):
    """Detect objects of several classes in one stage (CenterNet2 without ``ONLY_PROPOSAL``).

    mmdet's ``CenterNetUpdateHead`` differs: it has another GIoU, other initial boxes and
    convolution biases, and only one way to choose positives. It clips boxes before NMS, and is
    wrong for images without objects. (mmdet's ``CenterNetHead`` is a head of the first CenterNet.)

    Args:
        in_channels: Channels of the neck's maps.
        num_classes: Number of classes.
        loss_heatmap: By default ``BinaryHeatmapFocalLoss``.
        loss_bbox: By default ``PlusOneGIoULoss`` with a factor of 2, as in the reference.
        agnostic: Whether to predict a class-agnostic heatmap too. Scores are then the square
            roots of the products.
        **kwargs: Further arguments of ``CenterNetBaseHead``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        loss_heatmap: dict | None = None,
        loss_bbox: dict | None = None,
        agnostic: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            agnostic,
            loss_heatmap or dict(type='BinaryHeatmapFocalLoss'),
            loss_bbox or dict(type='PlusOneGIoULoss', loss_weight=2.0),
            **kwargs,
        )

    @torch.no_grad()
    def predict_by_feat(
        self,
        cls_logits: list[Tensor],
        heat_logits: list[Tensor],
        distances: list[Tensor],
        batch_img_metas: Sequence[dict],
        cfg: dict | None = None,
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Decode raw maps to objects.

        Args:
            cls_logits: Class logits, one map per level.
            heat_logits: Logits of the agnostic heatmap, one map per level, or an empty list.
            distances: Box distances in units of the stride, one map per level.
            batch_img_metas: For each image ``img_shape`` (height, width of the image without
                padding) and, to rescale, ``ori_shape`` and the entries ``to_original`` needs.
            cfg: Replaces ``test_cfg``.
            rescale: Whether to convert to pixels of the original image.

        Returns:
            Per image ``bboxes`` (n, 4) xyxy, ``scores`` (n,) and ``labels`` (n,), best first.
            Boxes are clipped to the image after NMS, and boxes without an area are dropped.
        """
        cfg = self.test_cfg if cfg is None else cfg
        found = self.candidates(cls_logits, heat_logits, distances, cfg)
        kept = suppress_rows(found, cfg['nms'], cfg['max_per_img'], class_agnostic=False)
        results = []
        for image, (rows, meta) in enumerate(zip(kept, batch_img_metas, strict=True)):
            result = InstanceData(
                bboxes=found.bboxes[image][rows],
                scores=found.scores[image][rows],
                labels=found.labels[image][rows],
            )
            if rescale:
                result = to_original(result, meta)
            size = meta['ori_shape' if rescale else 'img_shape'][:2]
            results.append(keep_inside(result, size))
        return results
