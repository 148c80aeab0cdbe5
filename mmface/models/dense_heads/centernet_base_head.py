# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Losses and candidate selection shared by CenterNet2's first stage and one-stage detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor

from mmface.models.dense_heads.centernet_module import CenterNetModule
from mmface.models.task_modules.padded_ground_truth import pack_ground_truth
from mmface.models.task_modules.proposal_selection import Candidates, best_candidates


class CenterNetBaseHead(CenterNetModule, BaseDenseHead):
    """Train and decode the raw maps of ``CenterNetModule``.

    The formulas are those of CenterNet2 (arXiv 2103.07461), computed for the whole batch in fixed
    shapes. Images without objects need no special case, and nothing waits for the device. Sums of
    losses are divided by the numbers of positives and of learned boxes. These numbers are means
    over the devices and at least 1.

    Args:
        in_channels: See ``CenterNetModule``.
        num_classes: See ``CenterNetModule``.
        agnostic: See ``CenterNetModule``.
        loss_heatmap: ``BinaryHeatmapFocalLoss`` of class scores and agnostic heatmap.
        loss_bbox: ``PlusOneGIoULoss`` of distances.
        strides: Input pixels per cell of each level.
        targets: Config of ``CenterNetTargets``; the head adds ``strides``.
        train_cfg: Not used; part of mmdet's interface.
        test_cfg: ``score_thr`` (scores must be above it), ``nms_pre`` (number of boxes taken from
            each level before NMS), ``nms`` (config of mmcv's NMS) and ``max_per_img``.
        **kwargs: Arguments of ``CenterNetModule``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        agnostic: bool,
        loss_heatmap: dict,
        loss_bbox: dict,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        targets: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, len(strides), num_classes, agnostic, **kwargs)
        self.strides = tuple(strides)
        self.loss_heatmap = MODELS.build(loss_heatmap)
        self.loss_bbox = MODELS.build(loss_bbox)
        targets = targets or dict(type='CenterNetTargets')
        self.targets = TASK_UTILS.build(dict(targets, strides=self.strides))
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg or {}

    def loss_by_feat(
        self,
        cls_logits: list[Tensor],
        heat_logits: list[Tensor],
        distances: list[Tensor],
        batch_gt_instances: Sequence[InstanceData],
        batch_img_metas: Sequence[dict] | None = None,
        batch_gt_instances_ignore: Sequence[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses from raw maps.

        Ignored objects have no effect, as in the reference: their area is background.

        Args:
            cls_logits: Class logits, one map per level, or an empty list.
            heat_logits: Logits of the agnostic heatmap, one map per level, or an empty list.
            distances: Box distances in units of the stride, one map per level.
            batch_gt_instances: Objects of each image: ``bboxes``, ``labels``. Any device works;
                the host is fastest.
            batch_img_metas: Not used; part of mmdet's interface.
            batch_gt_instances_ignore: Not used; part of mmdet's interface.

        Returns:
            ``loss_loc``, with class scores ``loss_pos`` and ``loss_neg``, and with an agnostic
            heatmap ``loss_agn_pos`` and ``loss_agn_neg``.
        """
        gt = pack_ground_truth(batch_gt_instances, distances[0].device)
        map_sizes = [(level.shape[-2], level.shape[-1]) for level in distances]
        boxes = _flatten(distances).transpose(1, 2)
        targets = self.targets(gt, map_sizes, max(self.num_classes, 1), boxes)

        totals = torch.stack([targets.positive.sum(), targets.regressed.sum()])
        num_positives, num_boxes = reduce_mean(totals.to(boxes.dtype)).clamp(min=1)
        # Cells without a box get the target as prediction. This gives no loss, no gradient, and no
        # infinities that a multiplication by zero would turn into NaN.
        boxes = torch.where(targets.regressed[..., None], boxes, targets.distances)
        loss_loc = self.loss_bbox(boxes, targets.distances) * targets.regressed
        losses = dict(loss_loc=loss_loc.sum() / num_boxes)

        def add_heat(prefix: str, maps: list[Tensor], heatmap: Tensor, place: Tensor) -> None:
            logits = _flatten(maps)
            positives = logits.flatten(1).gather(1, place)
            positive, negative = self.loss_heatmap(logits, heatmap, positives, targets.positive)
            losses[f'{prefix}_pos'] = positive / num_positives
            losses[f'{prefix}_neg'] = negative / num_positives

        if self.num_classes:
            place = targets.pos_channel * targets.heatmap.shape[-1] + targets.pos_cell
            add_heat('loss', cls_logits, targets.heatmap, place)
        if self.agnostic:
            heatmap = targets.heatmap.amax(1, keepdim=True)
            add_heat('loss_agn', heat_logits, heatmap, targets.pos_cell)
        return losses

    def candidates(
        self,
        cls_logits: list[Tensor],
        heat_logits: list[Tensor],
        distances: list[Tensor],
        cfg: dict,
    ) -> Candidates:
        """Decode raw maps to the best boxes of each level.

        Args:
            cls_logits: Same as in ``loss_by_feat``.
            heat_logits: Same as in ``loss_by_feat``.
            distances: Same as in ``loss_by_feat``.
            cfg: Same as ``test_cfg``.

        Returns:
            The boxes. With class scores p and agnostic heatmap q, their scores are p, sqrt(q) or,
            with both, sqrt(p q). The threshold applies to p, or to q if there is no p.
        """
        classes = [level.float().sigmoid() for level in cls_logits]
        heat = [level.float().sigmoid() for level in heat_logits]
        found = best_candidates(
            classes or heat,
            [level.float() for level in distances],
            self.strides,
            cfg.get('score_thr', 0.0),
            cfg['nms_pre'],
            heat if classes and heat else None,
        )
        return found._replace(scores=found.scores.sqrt()) if heat else found


def _flatten(maps: Sequence[Tensor]) -> Tensor:
    """Join the maps (B, C, H, W) of all levels to (B, C, cells) in float32."""
    return torch.cat([level.flatten(2) for level in maps], dim=2).float()
