# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Losses and decoding of SCRFD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor

from mmface.models.dense_heads.scrfd_module import RawMaps
from mmface.models.task_modules.batched_atss_assigner import SlotAssignment, box_iou
from mmface.models.task_modules.nearest_priors import PriorGrid
from mmface.models.task_modules.original_image import to_original
from mmface.models.task_modules.padded_ground_truth import (
    CROWD,
    PaddedGroundTruth,
    pack_ground_truth,
)
from mmface.models.task_modules.suppression import suppress

# Turns the 0 / 0 of a batch without positives into 0. It is far below any sum of scores: scores
# start near 0.01, and for this reason the box normaliser is not clamped at 1.
_TINY = 1e-12
# Number of keypoints for which the reference chose the weight of their loss.
_REFERENCE_KEYPOINTS = 5


@MODELS.register_module()
class SCRFDHead(BaseDenseHead):
    """Train and decode the raw maps of ``SCRFDModule``.

    The formulas are those of the reference (insightface ``scrfd_head.py``), computed for the
    whole batch in fixed shapes. Losses of boxes and keypoints are computed at the candidate slots
    of the assigner; slots that are not positive are masked out. Two errors of the reference are
    fixed: a batch without positives has finite losses, and each keypoint has its own weight.
    The reference sums the loss of five keypoints. Here the sum over K keypoints is multiplied by
    5 / K, so that the weights of the losses fit any number.

    Losses must not reduce their result, because the head applies weights and masks first:

    * ``loss_cls`` is called as ``loss(logits, quality)``, both (B, A, num_classes) for A priors,
      and must return the loss of each element in this shape, as ``DenseQualityFocalLoss`` does.
    * ``loss_bbox`` is called as ``loss(boxes, targets, reduction_override='none')``, both
      (B * M, 4) xyxy for M slots per image. It must return one value per box, (B * M,), as
      mmdet's IoU losses do. ``L1Loss``, with four values per box, does not fit.
    * ``loss_kps`` is called as ``loss(offsets, targets, reduction_override='none')``, both
      (B, M, K, 2). It must return the loss of each element in this shape, as mmdet's
      ``SmoothL1Loss`` does.

    Args:
        head_module: Config of the network; the head adds the numbers of strides, priors, classes
            and keypoints.
        num_classes: Number of classes.
        num_keypoints: Keypoints per face, 0 for none.
        prior_generator: Config of the prior boxes.
        loss_cls: Dense quality focal loss.
        loss_bbox: IoU loss of decoded boxes, in units of the stride.
        loss_kps: Loss of keypoint offsets, in units of the stride; required if
            ``num_keypoints`` > 0.
        mean_keypoint_weight: Whether to weight all keypoints of a face by their mean weight, as
            the reference does. A face with four labelled keypoints of five then also trains the
            missing one, towards the meaningless coordinates of its label. For comparisons only.
        train_cfg: ``assigner``, config of the assigner.
        test_cfg: ``score_thr``, ``nms`` (see ``suppress``: NMS, soft-NMS, voting), ``max_per_img``
            (-1: no limit) and ``min_bbox_size`` (pixels; a box is dropped if one of its sides is
            not larger).
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: ``num_keypoints`` > 0 without ``loss_kps``.
    """

    def __init__(
        self,
        head_module: dict,
        prior_generator: dict,
        loss_cls: dict,
        loss_bbox: dict,
        loss_kps: dict | None = None,
        num_classes: int = 1,
        num_keypoints: int = 0,
        mean_keypoint_weight: bool = False,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes = num_classes
        self.num_keypoints = num_keypoints
        self.mean_keypoint_weight = mean_keypoint_weight
        self.prior_generator = TASK_UTILS.build(prior_generator)
        self.module = MODELS.build(
            dict(
                head_module,
                num_strides=len(self.prior_generator.strides),
                num_priors=self.prior_generator.num_base_priors[0],
                num_classes=num_classes,
                num_keypoints=num_keypoints,
            )
        )
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        if num_keypoints:
            if loss_kps is None:
                raise ValueError(
                    'a head with num_keypoints > 0 needs loss_kps, found None: add loss_kps, or '
                    'set num_keypoints=0'
                )
            self.loss_kps = MODELS.build(loss_kps)
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg or {}
        if train_cfg is not None:
            self.assigner = TASK_UTILS.build(train_cfg['assigner'])
        self._prior_cache: dict = {}

    def forward(self, feats: Sequence[Tensor]) -> RawMaps:
        """Compute the raw maps; see ``SCRFDModule.forward``."""
        return self.module(feats)

    def loss(self, feats: Sequence[Tensor], batch_data_samples: list) -> dict[str, list[Tensor]]:
        """Compute the losses of a batch.

        Args:
            feats: The neck's maps, one per stride.
            batch_data_samples: Samples whose ``gt_instances`` have ``bboxes``, ``labels`` and,
                with keypoints, ``keypoints``. Any device works; the host is fastest.

        Returns:
            ``loss_cls``, ``loss_bbox`` and, with keypoints, ``loss_kps``: one scalar per stride.
        """
        gt_instances = unpack_gt_instances(batch_data_samples)[0]
        cls_scores, bbox_preds, kps_preds = self(feats)
        return self.loss_by_feat(cls_scores, bbox_preds, kps_preds, gt_instances)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        kps_preds: list[Tensor],
        batch_gt_instances: Sequence[InstanceData],
        batch_img_metas: Sequence[dict] | None = None,
        batch_gt_instances_ignore: Sequence[InstanceData] | None = None,
    ) -> dict[str, list[Tensor]]:
        """Compute the losses from raw maps.

        Ignored faces have no effect, as in the reference: their area is background.

        Args:
            cls_scores: Score logits, one map per stride.
            bbox_preds: Box distances in units of the stride, one map per stride.
            kps_preds: Keypoint offsets in units of the stride, one map per stride.
            batch_gt_instances: Faces of each image.
            batch_img_metas: Not used; part of mmdet's interface.
            batch_gt_instances_ignore: Not used; part of mmdet's interface.

        Returns:
            Same as ``loss``.
        """
        device = cls_scores[0].device
        grids, priors, strides = self._priors(cls_scores)
        gt = pack_ground_truth(batch_gt_instances, device, self.num_keypoints)
        sizes = [grid.size for grid in grids]
        if gt.mask.shape[1] > CROWD:
            slots, gt = self.assigner.assign_crowd(priors, grids, gt)
            layout, slot_levels = (len(gt.mask), 1, len(priors)), sizes
        else:
            slots = self.assigner.assign_batch(priors, grids, gt.bboxes, gt.mask)
            # Within each face, the slots of a level are contiguous.
            layout = tuple(slots.prior_index.shape)
            slot_levels = [min(self.assigner.topk, size) for size in sizes]

        # Losses are computed in float32, whatever the precision of the network.
        logits = _flatten(cls_scores, self.num_classes).float()
        index = slots.prior_index.flatten(1)
        positive = slots.positive.flatten(1)
        slot_strides = strides[index][..., None]
        centres = ((priors[:, :2] + priors[:, 2:]) / 2)[index] / slot_strides

        # Slots that are not positive get a unit box as prediction and as target. This gives no
        # loss, no gradient, and no infinities that a multiplication by zero would turn into NaN.
        # It is made on the device: a copy from the host would wait for the device.
        unit = torch.arange(4, device=device).ge(2).to(logits.dtype)
        distances = _take(_flatten(bbox_preds, 4), index).float()
        boxes = torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)
        boxes = torch.where(positive[..., None], boxes, unit)
        targets = _per_slot(gt.bboxes, slots) / slot_strides
        targets = torch.where(positive[..., None], targets, unit)

        with torch.no_grad():
            weight = _take(logits, index).sigmoid().amax(-1) * positive
            quality = box_iou(boxes, targets) * positive
            quality_map = self._scatter_quality(quality, slots, gt, logits.shape)
            totals = torch.stack([positive.sum(1).clamp(min=1).sum(), weight.sum()])
            num_positives, score_sum = reduce_mean(totals)

        loss_cls = self.loss_cls(logits, quality_map).sum((0, 2)) / num_positives.clamp(min=1)
        scale = weight / score_sum.clamp(min=_TINY)
        loss_bbox = scale * self.loss_bbox(
            boxes.flatten(0, 1), targets.flatten(0, 1), reduction_override='none'
        ).view_as(scale)
        losses = dict(
            loss_cls=[part.sum() for part in loss_cls.split(sizes)],
            loss_bbox=_sum_levels(loss_bbox, layout, slot_levels),
        )
        if self.num_keypoints:
            offsets = _take(_flatten(kps_preds, 2 * self.num_keypoints), index).float()
            loss_kps = scale * self._keypoint_loss(offsets, gt, slots, centres, slot_strides)
            losses['loss_kps'] = _sum_levels(loss_kps, layout, slot_levels)
        return losses

    def _scatter_quality(
        self, quality: Tensor, slots: SlotAssignment, gt: PaddedGroundTruth, shape: torch.Size
    ) -> Tensor:
        batch, num_priors, classes = shape
        label = gt.labels[..., None].expand_as(slots.prior_index).flatten(1)
        index = slots.prior_index.flatten(1) * classes + label
        out = quality.new_zeros(batch, num_priors * classes)
        return out.scatter_reduce_(1, index, quality, 'amax').view(shape)

    def _keypoint_loss(
        self,
        offsets: Tensor,
        gt: PaddedGroundTruth,
        slots: SlotAssignment,
        centres: Tensor,
        slot_strides: Tensor,
    ) -> Tensor:
        assert gt.keypoints is not None
        keypoints = _per_slot(gt.keypoints.flatten(2), slots)
        keypoints = keypoints.unflatten(-1, (self.num_keypoints, 3))
        weight = keypoints[..., 2:]
        if self.mean_keypoint_weight:
            weight = weight.mean(-2, keepdim=True)
        weight = weight * slots.positive.flatten(1)[..., None, None]
        target = keypoints[..., :2] / slot_strides[..., None] - centres[..., None, :]
        loss = self.loss_kps(offsets.view_as(target), target, reduction_override='none')
        return (loss * weight).sum((-2, -1)) * (_REFERENCE_KEYPOINTS / self.num_keypoints)

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        kps_preds: list[Tensor],
        batch_img_metas: Sequence[dict],
        cfg: dict | None = None,
        rescale: bool = True,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Decode raw maps to faces.

        Args:
            cls_scores: Score logits, one map per stride.
            bbox_preds: Box distances in units of the stride, one map per stride.
            kps_preds: Keypoint offsets in units of the stride, one map per stride; may be empty.
            batch_img_metas: For each image ``img_shape`` (height, width of the image without
                padding) and the entries that ``to_original`` needs.
            cfg: Replaces ``test_cfg``.
            rescale: Whether to convert to pixels of the original image.
            with_nms: Whether to suppress overlapping boxes.

        Returns:
            Per image ``bboxes`` (n, 4) xyxy, ``scores`` (n,), ``labels`` (n,) and, with
            keypoints, ``keypoints`` (n, K, 3) x, y, 1; sorted by score after NMS. Boxes are
            clipped to the image, keypoints are not.
        """
        cfg = self.test_cfg if cfg is None else cfg
        _, priors, strides = self._priors(cls_scores)
        centres = (priors[:, :2] + priors[:, 2:]) / 2
        scores = _flatten(cls_scores, self.num_classes).float().sigmoid()
        distances = _flatten(bbox_preds, 4)
        offsets = _flatten(kps_preds, 2 * self.num_keypoints) if kps_preds else None
        results = []
        for image, meta in enumerate(batch_img_metas):
            prior, label = (scores[image] > cfg.get('score_thr', 0)).nonzero(as_tuple=True)
            stride = strides[prior][:, None]
            centre = centres[prior]
            distance = distances[image][prior].float() * stride
            height, width = meta['img_shape'][:2]
            bboxes = torch.cat([centre - distance[:, :2], centre + distance[:, 2:]], dim=-1)
            bboxes[:, 0::2].clamp_(0, width)
            bboxes[:, 1::2].clamp_(0, height)
            found = InstanceData(bboxes=bboxes, scores=scores[image][prior, label], labels=label)
            if offsets is not None:
                points = (offsets[image][prior].float() * stride).unflatten(-1, (-1, 2))
                points = points + centre[:, None]
                found.keypoints = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
            if rescale:
                found = to_original(found, meta)
            results.append(self._suppress(found, cfg, with_nms))
        return results

    @staticmethod
    def _suppress(found: InstanceData, cfg: dict, with_nms: bool) -> InstanceData:
        min_size = cfg.get('min_bbox_size', 0)
        if min_size > 0:
            sides = found.bboxes[:, 2:] - found.bboxes[:, :2]
            found = found[(sides > min_size).all(-1)]
        return suppress(found, cfg['nms'], cfg.get('max_per_img', -1)) if with_nms else found

    def _priors(self, maps: Sequence[Tensor]) -> tuple[list[PriorGrid], Tensor, Tensor]:
        """Return the grid of each level, all priors (A, 4) and the stride of each prior (A,)."""
        sizes = tuple(tuple(level.shape[-2:]) for level in maps)
        key = (sizes, maps[0].device)
        if key not in self._prior_cache:
            # One entry is enough for training. More would pile up in tests at original size.
            self._prior_cache.clear()
            generator = self.prior_generator
            levels = generator.grid_priors(sizes, device=maps[0].device)
            grids, strides = [], []
            for level, size, stride, base in zip(
                levels, sizes, generator.strides, generator.base_anchors, strict=True
            ):
                # Centre of the priors of the first cell, computed on the host to avoid waiting.
                x, y = ((base[0, :2] + base[0, 2:]) / 2).tolist()
                grids.append(PriorGrid(size[0], size[1], len(base), (stride[0], stride[1]), (x, y)))
                strides.append(level.new_full((len(level),), stride[0]))
            self._prior_cache[key] = (grids, torch.cat(levels), torch.cat(strides))
        return self._prior_cache[key]


def _flatten(maps: Sequence[Tensor], channels: int) -> Tensor:
    """Join the maps (B, P * channels, H, W) of all levels to (B, priors, channels)."""
    return torch.cat(
        [level.permute(0, 2, 3, 1).reshape(len(level), -1, channels) for level in maps], dim=1
    )


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Select rows (B, S) of values (B, A, C); return (B, S, C)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def _per_slot(values: Tensor, slots: SlotAssignment) -> Tensor:
    """Repeat per-face values (B, N, C) for each slot of the face; return (B, N * S, C)."""
    count = slots.prior_index.shape[-1]
    return values[:, :, None].expand(-1, -1, count, -1).flatten(1, 2)


def _sum_levels(values: Tensor, layout: tuple[int, ...], slot_levels: list[int]) -> list[Tensor]:
    """Sum values (B, N * S) for each level; ``layout`` is (B, N, S)."""
    parts = values.view(layout).sum((0, 1)).split(slot_levels)
    return [part.sum() for part in parts]
