# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Losses and decoding of CenterFace."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor

from mmface.models.dense_heads.centerface_module import RawMaps
from mmface.models.task_modules.original_image import to_original
from mmface.models.task_modules.padded_ground_truth import pack_ground_truth
from mmface.models.task_modules.suppression import suppress

# The references add this to the number of objects they divide by.
_TINY = 1e-4


@MODELS.register_module()
class CenterFaceHead(BaseDenseHead):
    """Train and decode the raw maps of ``CenterFaceModule``.

    The formulas are those of chenjun2hao's and MindSpore's code, computed for the whole batch in
    fixed shapes. The number of faces in an image is not limited. All losses are divided by the
    number of objects over all devices, so several devices train like one with a larger batch.
    The references divide on each device.

    Losses must not reduce their result, because the head applies weights and masks first:

    * ``loss_heatmap`` is called as ``loss(logits, heatmap)``, both (B, C, H, W) for C classes, and
      must return the loss of each cell in this shape.
    * ``loss_size``, ``loss_offset`` and ``loss_kps`` are called as
      ``loss(predictions, targets, reduction_override='none')``, both (B, N, D) with D = 2 (2K for
      keypoints). They must return the loss of each element in this shape, as mmdet's ``L1Loss``
      and ``SmoothL1Loss`` do. IoU losses, with one value per box, do not fit.

    Args:
        head_module: Config of the network; the head adds the numbers of classes and
            keypoints.
        coder: Config of the coder, which defines the meaning of the maps.
        loss_heatmap: Dense focal loss of heatmap logits.
        loss_size: Loss of the logarithms of face sizes.
        loss_offset: Loss of the centre offsets inside cells.
        loss_kps: Loss of keypoints; required if ``num_keypoints`` > 0.
        num_classes: Number of classes. Each has its own heatmap; the other maps are shared.
        num_keypoints: Keypoints per face, 0 for none.
        train_cfg: ``targets``, config of ``GaussianTargets``.
        test_cfg: ``peak`` (odd window size in cells; a cell is a candidate if it has the highest
            score of its window; 1 for every cell), ``peak_tolerance`` (fraction by which it may be
            below the highest score; MindSpore uses 1e-3 because device pooling is not exact),
            ``topk`` (number of best candidates kept, -1 for all), ``score_thr`` (scores must be
            above it), ``nms`` (see ``suppress``; in pixels of the network's input, none by
            default) and ``max_per_img`` (-1: no limit).
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: ``num_keypoints`` > 0 without ``loss_kps``, or ``peak`` is not odd.
    """

    def __init__(
        self,
        head_module: dict,
        coder: dict,
        loss_heatmap: dict,
        loss_size: dict,
        loss_offset: dict,
        loss_kps: dict | None = None,
        num_classes: int = 1,
        num_keypoints: int = 5,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes = num_classes
        self.num_keypoints = num_keypoints
        self.module = MODELS.build(
            dict(head_module, num_classes=num_classes, num_keypoints=num_keypoints)
        )
        self.coder = TASK_UTILS.build(coder)
        self.loss_heatmap = MODELS.build(loss_heatmap)
        self.loss_size = MODELS.build(loss_size)
        self.loss_offset = MODELS.build(loss_offset)
        if num_keypoints:
            if loss_kps is None:
                raise ValueError(
                    'a head with num_keypoints > 0 needs loss_kps, found None: add loss_kps, or '
                    'set num_keypoints=0'
                )
            self.loss_kps = MODELS.build(loss_kps)
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg or {}
        if self.test_cfg.get('peak', 1) % 2 != 1:
            raise ValueError(f'test_cfg.peak must be odd, got {self.test_cfg["peak"]}')
        if train_cfg is not None:
            self.targets = TASK_UTILS.build(train_cfg['targets'])

    def forward(self, feats: Sequence[Tensor]) -> RawMaps:
        """Compute the raw maps; see ``CenterFaceModule.forward``."""
        return self.module(feats)

    def loss(self, feats: Sequence[Tensor], batch_data_samples: list) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            feats: The single map of the neck.
            batch_data_samples: Samples whose ``gt_instances`` (and ``ignored_instances``) have
                ``bboxes``, ``labels`` and, with keypoints, ``keypoints``. Any device works; the
                host is fastest.

        Returns:
            ``loss_heatmap``, ``loss_size``, ``loss_offset`` and, with keypoints, ``loss_kps``.
        """
        gt_instances, ignored, metas = unpack_gt_instances(batch_data_samples)
        return self.loss_by_feat(
            *self(feats),
            batch_gt_instances=gt_instances,
            batch_img_metas=metas,
            batch_gt_instances_ignore=ignored,
        )

    def loss_by_feat(
        self,
        heatmap: Tensor,
        size: Tensor,
        offset: Tensor,
        keypoints: Tensor | None = None,
        *,
        batch_gt_instances: Sequence[InstanceData],
        batch_img_metas: Sequence[dict] | None = None,
        batch_gt_instances_ignore: Sequence[InstanceData | None] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses from raw maps.

        Args:
            heatmap: Heatmap logits (B, C, H, W).
            size: Size map (B, 2, H, W).
            offset: Offset map (B, 2, H, W).
            keypoints: Keypoint map (B, 2K, H, W), or ``None`` without keypoints.
            batch_gt_instances: Faces of each image.
            batch_img_metas: Not used; part of mmdet's interface.
            batch_gt_instances_ignore: Ignored faces of each image. They have an effect only with
                ``mask_ignored`` of ``GaussianTargets``; otherwise they are background.

        Returns:
            Same as ``loss``.
        """
        device = heatmap.device
        gt = pack_ground_truth(batch_gt_instances, device, self.num_keypoints)
        ignored = None
        if self.targets.mask_ignored:
            none = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0))
            found = batch_gt_instances_ignore or [None] * len(batch_gt_instances)
            ignored = pack_ground_truth([none if row is None else row for row in found], device)
        height, width = heatmap.shape[-2:]
        targets = self.targets(gt, (height, width), self.coder, ignored, self.num_classes)

        loss_map = self.loss_heatmap(heatmap, targets.heatmap)
        if targets.heat_weight is not None:
            loss_map = loss_map * targets.heat_weight
        peaks = targets.heatmap.eq(1).sum().to(loss_map.dtype)
        points = peaks if targets.keypoint_mask is None else targets.keypoint_mask.sum()
        num_peaks, num_faces, num_points = reduce_mean(
            torch.stack([peaks, targets.mask.sum(), points])
        )
        losses = dict(
            loss_heatmap=loss_map.sum() / num_peaks.clamp(min=1),
            loss_size=_weighted(
                self.loss_size, size, targets.position, targets.size, targets.weight[..., None]
            )
            / (num_faces + _TINY),
            loss_offset=_weighted(
                self.loss_offset,
                offset,
                targets.position,
                targets.offset,
                targets.weight[..., None],
            )
            / (num_faces + _TINY),
        )
        if keypoints is not None:
            losses['loss_kps'] = _weighted(
                self.loss_kps, keypoints, targets.position, targets.keypoints, targets.keypoint_mask
            ) / (num_points + _TINY)
        return losses

    def predict_by_feat(
        self,
        heatmap: Tensor,
        size: Tensor,
        offset: Tensor,
        keypoints: Tensor | None = None,
        *,
        batch_img_metas: Sequence[dict],
        cfg: dict | None = None,
        rescale: bool = True,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Decode raw maps to faces.

        Args:
            heatmap: Heatmap logits (B, C, H, W).
            size: Size map (B, 2, H, W).
            offset: Offset map (B, 2, H, W).
            keypoints: Keypoint map (B, 2K, H, W), or ``None`` without keypoints.
            batch_img_metas: For each image ``img_shape`` (height, width of the image in the
                input), ``scale_factor`` (w, h) and, if the image does not start at the left-top
                corner of the input, ``pad_offset`` (x, y in input pixels).
            cfg: Replaces ``test_cfg``.
            rescale: Whether to convert to pixels of the original image.
            with_nms: Whether to suppress overlapping boxes.

        Returns:
            Per image ``bboxes`` (n, 4) xyxy, ``scores`` (n,), ``labels`` (n,) and, with
            keypoints, ``keypoints`` (n, K, 3) x, y, 1; best first. Some conventions clip boxes
            to the image, see ``CenterFaceCoder``.
        """
        cfg = self.test_cfg if cfg is None else cfg
        scores = self._candidates(heatmap.float().sigmoid(), cfg)
        height, width = heatmap.shape[-2:]
        results = []
        for image, meta in enumerate(batch_img_metas):
            index, score = self._select(scores[image], cfg)
            label, index = index // (height * width), index % (height * width)
            cell = torch.stack([index % width, index // width], dim=-1)
            bboxes, points = self.coder.decode(
                cell,
                _take(size[image], index),
                _take(offset[image], index),
                None if keypoints is None else _take(keypoints[image], index),
                meta['img_shape'],
            )
            found = InstanceData(bboxes=bboxes, scores=score, labels=label)
            if points is not None:
                found.keypoints = F.pad(points, (0, 1), value=1.0)
            found = suppress(
                found, cfg.get('nms') if with_nms else None, cfg.get('max_per_img', -1)
            )
            results.append(to_original(found, meta) if rescale else found)
        return results

    @staticmethod
    def _candidates(heat: Tensor, cfg: dict) -> Tensor:
        """Set the score of cells that are not peaks to -1; return (B, C * H * W)."""
        peak = cfg.get('peak', 1)
        if peak > 1:
            hottest = F.max_pool2d(heat, peak, stride=1, padding=peak // 2)
            limit = hottest * (1 - cfg.get('peak_tolerance', 0.0))
            heat = torch.where(heat >= limit, heat, -1)
        return heat.flatten(1)

    @staticmethod
    def _select(scores: Tensor, cfg: dict) -> tuple[Tensor, Tensor]:
        """Return indices (n,) and scores (n,) of the candidates of an image (C * H * W,)."""
        threshold = cfg.get('score_thr', 0.0)
        topk = cfg.get('topk', -1)
        if topk < 0:
            (index,) = (scores > threshold).nonzero(as_tuple=True)
            return index, scores[index]
        hottest, index = scores.topk(min(topk, len(scores)))
        keep = hottest > threshold
        return index[keep], hottest[keep]


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Select the cells (n,) of a map (C, H, W); return (n, C) in float32."""
    return values.flatten(1)[:, index].T.float()


def _weighted(
    loss: torch.nn.Module, values: Tensor, index: Tensor, target: Tensor, weight: Tensor
) -> Tensor:
    """Sum the weighted losses at cells (B, N) of a map (B, C, H, W) in float32."""
    channels = values.shape[1]
    index = index[:, None].expand(-1, channels, -1)
    found = values.flatten(2).gather(2, index).transpose(1, 2).float()
    # Replace the prediction where nothing is learned: zero times infinity is NaN.
    found = torch.where(weight > 0, found, target)
    return (loss(found, target, reduction_override='none') * weight).sum()
