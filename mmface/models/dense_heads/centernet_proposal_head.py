# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The first stage of CenterNet2: class-agnostic proposals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from mmface.models.dense_heads.centernet_base_head import CenterNetBaseHead
from mmface.models.task_modules.proposal_selection import suppress_fixed, suppress_rows

#: Values of CenterNet2 (``Base-CenterNet2.yaml``).
LOSS_HEATMAP = dict(
    type='BinaryHeatmapFocalLoss', ignore_high_fp=0.85, pos_weight=0.5, neg_weight=0.5
)


@MODELS.register_module()
class CenterNetProposalHead(CenterNetBaseHead):
    """Propose boxes of objects of any class (CenterNet2 with ``ONLY_PROPOSAL``).

    Proposals are not clipped to the image. Their scores are the square roots of the heatmap
    scores. No gradient flows through them and none is recorded; in the reference this recording
    made memory grow.

    Args:
        in_channels: Channels of the neck's maps.
        loss_heatmap: By default ``BinaryHeatmapFocalLoss`` with the reference's values.
        loss_bbox: By default ``PlusOneGIoULoss``.
        num_classes: 1; part of mmdet's interface.
        fixed_shape: Whether each image has exactly ``max_per_img`` proposals, padded with zeros.
            By default true only on NPUs, which compile operators for each shape. Otherwise the
            proposals are the same, except that proposals beyond ``max_per_img`` are kept if they
            have the same score as the last one.
        **kwargs: Further arguments of ``CenterNetBaseHead``.

    Raises:
        ValueError: ``num_classes`` is not 1.
    """

    def __init__(
        self,
        in_channels: int,
        loss_heatmap: dict | None = None,
        loss_bbox: dict | None = None,
        num_classes: int = 1,
        fixed_shape: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if num_classes != 1:
            raise ValueError(
                f'CenterNetProposalHead predicts no classes, found num_classes={num_classes}: '
                'remove it here and set num_classes of the RoI head'
            )
        super().__init__(
            in_channels,
            0,
            True,
            loss_heatmap or LOSS_HEATMAP,
            loss_bbox or dict(type='PlusOneGIoULoss'),
            **kwargs,
        )
        self.fixed_shape = fixed_shape

    @torch.no_grad()
    def predict_by_feat(
        self,
        cls_logits: list[Tensor],
        heat_logits: list[Tensor],
        distances: list[Tensor],
        batch_img_metas: Sequence[dict] | None = None,
        cfg: dict | None = None,
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Select the proposals.

        Args:
            cls_logits: Not used, an empty list.
            heat_logits: Logits of the heatmap, one map per level.
            distances: Box distances in units of the stride, one map per level.
            batch_img_metas: Not used; part of mmdet's interface.
            cfg: Replaces ``test_cfg``.
            rescale: Not used: proposals are always in input pixels.

        Returns:
            Per image ``bboxes`` (n, 4) xyxy in input pixels, not clipped, and ``scores`` (n,),
            best first. With ``fixed_shape`` n is ``max_per_img`` and ``valid`` (n,) marks the
            rows that are proposals; the other rows come last and are zeros.
        """
        cfg = self.test_cfg if cfg is None else cfg
        found = self.candidates(cls_logits, heat_logits, distances, cfg)
        limit = cfg['max_per_img']
        fixed = self.fixed_shape
        if not (found.bboxes.device.type == 'npu' if fixed is None else fixed):
            kept = suppress_rows(found, cfg['nms'], limit, class_agnostic=True)
            return [
                InstanceData(bboxes=found.bboxes[image][rows], scores=found.scores[image][rows])
                for image, rows in enumerate(kept)
            ]
        rows, valid = suppress_fixed(found, cfg['nms'], limit, class_agnostic=True)
        bboxes = found.bboxes.gather(1, rows[..., None].expand(-1, -1, 4)) * valid[..., None]
        scores = found.scores.gather(1, rows) * valid
        return [
            InstanceData(bboxes=box, scores=score, valid=real)
            for box, score, real in zip(bboxes, scores, valid, strict=True)
        ]
