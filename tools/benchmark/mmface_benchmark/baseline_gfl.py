# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""SCRFD's losses with mmdet's own assigner and target code, image by image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from mmdet.models.dense_heads import ATSSHead
from mmdet.models.utils import multi_apply
from mmdet.structures.bbox import bbox_overlaps, distance2bbox
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor


class StockScrfdHead(ATSSHead):
    """SCRFD's head built from mmdet parts: the loss of ``GFLHead`` without distributions.

    Anchors, ``ATSSAssigner`` per image, sampling and targets are mmdet's own. The loss of a level
    selects its positives by index, as ``GFLHead.loss_by_feat_single`` does. It is a baseline for
    speed, without keypoints. mmdet's inside test differs by fractions of a pixel from SCRFD's.

    Args:
        prior_generator: See ``SCRFDHead``.
    """

    def __init__(self, prior_generator: dict) -> None:
        with warnings.catch_warnings():
            # mmdet reads an attribute under a name that mmdet itself calls deprecated.
            warnings.filterwarnings('ignore', message='.*num_anchors.*')
            self._build(prior_generator)

    def _build(self, prior_generator: dict) -> None:
        super().__init__(
            num_classes=1,
            in_channels=8,
            feat_channels=8,
            stacked_convs=0,
            norm_cfg=None,
            anchor_generator=dict(prior_generator),
            reg_decoded_bbox=True,
            loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
            loss_bbox=dict(type='DIoULoss', loss_weight=2.0),
            train_cfg=dict(
                assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1
            ),
        )

    def losses(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        gt_instances: Sequence[InstanceData],
        pad_shape: tuple[int, int],
    ) -> dict[str, list[Tensor]]:
        """Compute the losses from raw maps. The arguments are those of the head's loss_by_feat."""
        device = cls_scores[0].device
        metas = [dict(pad_shape=pad_shape, img_shape=pad_shape) for _ in gt_instances]
        sizes = [level.shape[-2:] for level in cls_scores]
        anchors, valid = self.get_anchors(sizes, metas, device=device)
        anchors, labels, label_weights, targets, _, positives = self.get_targets(
            anchors, valid, list(gt_instances), metas
        )
        total = torch.tensor(positives, dtype=torch.float, device=device)
        total = reduce_mean(total).clamp(min=1).item()
        loss_cls, loss_bbox, weights = multi_apply(
            self._level,
            anchors,
            cls_scores,
            bbox_preds,
            labels,
            label_weights,
            targets,
            self.prior_generator.strides,
            total=total,
        )
        weight = reduce_mean(sum(weights)).item()
        return dict(loss_cls=loss_cls, loss_bbox=[loss / weight for loss in loss_bbox])

    def _level(
        self,
        anchors: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        targets: Tensor,
        stride: tuple[int, int],
        total: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        anchors = anchors.reshape(-1, 4)
        cls_score = cls_score.permute(0, 2, 3, 1).reshape(-1, 1)
        bbox_pred = bbox_pred.permute(0, 2, 3, 1).reshape(-1, 4)
        targets = targets.reshape(-1, 4)
        labels = labels.reshape(-1)
        label_weights = label_weights.reshape(-1)
        (positive,) = ((labels >= 0) & (labels < self.num_classes)).nonzero(as_tuple=True)
        score = label_weights.new_zeros(labels.shape)
        if len(positive) > 0:
            centres = (anchors[positive][:, :2] + anchors[positive][:, 2:]) / 2 / stride[0]
            weight = cls_score.detach().sigmoid().max(dim=1)[0][positive]
            boxes = distance2bbox(centres, bbox_pred[positive])
            wanted = targets[positive] / stride[0]
            score[positive] = bbox_overlaps(boxes.detach(), wanted, is_aligned=True)
            loss_bbox = self.loss_bbox(boxes, wanted, weight=weight, avg_factor=1.0)
        else:
            loss_bbox = bbox_pred.sum() * 0
            weight = bbox_pred.new_tensor(0)
        loss_cls = self.loss_cls(cls_score, (labels, score), weight=label_weights, avg_factor=total)
        return loss_cls, loss_bbox, weight.sum()
