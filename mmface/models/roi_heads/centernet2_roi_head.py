# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The second stage of CenterNet2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models.roi_heads.base_roi_head import BaseRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmengine.model import ModuleList
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmface.models.roi_heads.roi_targets import RoITargets, match_rois, sample_rois
from mmface.models.task_modules.original_image import keep_inside, to_original
from mmface.models.task_modules.padded_ground_truth import PaddedGroundTruth, pack_ground_truth
from mmface.models.task_modules.suppression import suppress


class RoIs(NamedTuple):
    """RoIs of a batch, N per image.

    Attributes:
        bboxes: (B, N, 4) xyxy in input pixels, always float32; zero if not valid.
        valid: (B, N) whether the RoI is used; the others are padding or were dropped.
    """

    bboxes: Tensor
    valid: Tensor


@MODELS.register_module()
class CenterNet2RoIHead(BaseRoIHead):
    """Classify proposals in one or several stages and refine their boxes (arXiv 2103.07461).

    The values are those of the reference (xingyizhou/CenterNet2 ``custom_roi_heads.py`` and
    detectron2 ``cascade_rcnn.py``). Differences from mmdet's ``CascadeRoIHead``:

    * RoIs are sampled once, for the first stage. Later stages train on all boxes of the stage
      before, including those that come from appended ground truth. In training only, boxes that
      are empty after clipping to the image are dropped.
    * The gradient from a stage into the feature maps is divided by the number of stages.
    * The score is sqrt(p q), with p the mean probability over the stages and q the proposal's
      score.
    * Results are clipped to the original image, and dropped if no area is left.

    RoIs are stored in (B, N) tensors with a mask. Without fixed shapes the heads skip masked
    RoIs. With fixed shapes the heads compute them too, and no shape depends on the data. Losses
    and results are the same.

    Args:
        num_stages: 3, or 1 for CenterNet2-F, whose parameter names have no stage index.
        delta_weights: For each stage, ``weights`` of its ``UpperClampedDeltaCoder``. More entries
            than stages are allowed.
        bbox_roi_extractor: Config of a ``FixedShapeRoIExtractor``, shared by the stages.
        bbox_head: Config of the head of each stage; this class adds its ``bbox_coder``.
        fixed_shape: Whether shapes must not depend on the data. By default true only on NPUs,
            which compile an operator again for each new shape.
        train_cfg: ``stage_ious`` (for each stage, the minimum IoU of a foreground RoI),
            ``num_samples`` (per image) and ``pos_fraction`` (largest fraction of foreground
            samples).
        test_cfg: ``score_thr``, ``nms`` and ``max_per_img``, see ``suppress``.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: There are fewer ``delta_weights`` or ``stage_ious`` than stages.
    """

    def __init__(
        self,
        num_stages: int,
        bbox_roi_extractor: dict,
        bbox_head: dict,
        delta_weights: Sequence[Sequence[float]],
        fixed_shape: bool | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        self.num_stages = num_stages
        self.delta_weights = delta_weights
        self.fixed_shape = fixed_shape
        for name, values in dict(
            delta_weights=delta_weights, stage_ious=train_cfg and train_cfg['stage_ious']
        ).items():
            if values is not None and len(values) < num_stages:
                raise ValueError(
                    f'{num_stages} stages need one entry per stage in {name}, got {len(values)}'
                )
        super().__init__(
            bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=bbox_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )

    def init_bbox_head(self, bbox_roi_extractor: dict, bbox_head: dict) -> None:
        """Build the extractor and the heads."""
        self.bbox_roi_extractor = MODELS.build(bbox_roi_extractor)
        heads = [
            MODELS.build(
                dict(bbox_head, bbox_coder=dict(type='UpperClampedDeltaCoder', weights=weights))
            )
            for weights in self.delta_weights[: self.num_stages]
        ]
        self.bbox_head = heads[0] if self.num_stages == 1 else ModuleList(heads)

    def init_mask_head(self, *args: object, **kwargs: object) -> None:
        """Raise ``NotImplementedError``: there are no masks. Part of mmdet's interface."""
        raise NotImplementedError

    def init_assigner_sampler(self) -> None:
        """Do nothing; part of mmdet's interface. See ``match_rois`` and ``sample_rois``."""

    @property
    def stages(self) -> Sequence[BBoxHead]:
        """Return the head of each stage."""
        return [self.bbox_head] if self.num_stages == 1 else list(self.bbox_head)

    def loss(
        self, x: Sequence[Tensor], rpn_results_list: list[InstanceData], batch_data_samples: list
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            x: Feature maps (B, C, H, W), finest first.
            rpn_results_list: Proposals of each image: ``bboxes`` (n, 4) xyxy in input pixels
                and, if some of them are padding, ``valid`` (n,).
            batch_data_samples: Samples with ``gt_instances`` (``bboxes``, ``labels``; the host is
                fastest) and the meta entry ``img_shape``, height and width without padding.

        Returns:
            ``loss_cls``, ``loss_bbox`` and ``acc`` (percentage of RoIs classified correctly).
            With several stages the names have the prefixes ``s0.``, ``s1.``, ``s2.``.
        """
        gt_instances, _, metas = unpack_gt_instances(batch_data_samples)
        gt = pack_ground_truth(gt_instances, x[0].device)
        rois, _ = stack_proposals(rpn_results_list)
        rois = self.sample(rois, gt)
        limits = image_limits(metas, x[0].device)
        feats = self._to_float(x)
        losses = {}
        for stage, head in enumerate(self.stages):
            logits, deltas = self._forward_stage(head, feats, rois, x[0].dtype)
            targets = match_rois(rois.bboxes, gt, self.train_cfg['stage_ious'][stage])
            prefix = f's{stage}.' if self.num_stages > 1 else ''
            for name, value in self._loss_stage(head, logits, deltas, rois, targets).items():
                losses[prefix + name] = value
            if stage < self.num_stages - 1:
                bboxes = _decode_inside(head, rois.bboxes, deltas, limits)
                valid = rois.valid & (bboxes[..., 2:] > bboxes[..., :2]).all(-1)
                rois = RoIs(torch.where(valid[..., None], bboxes, 0), valid)
        return losses

    @torch.no_grad()
    def sample(self, rois: RoIs, gt: PaddedGroundTruth) -> RoIs:
        """Append the ground truth to the proposals and sample the RoIs of the first stage."""
        bboxes = torch.cat([rois.bboxes, gt.bboxes], dim=1)
        valid = torch.cat([rois.valid, gt.mask], dim=1)
        foreground = match_rois(bboxes, gt, self.train_cfg['stage_ious'][0]).foreground & valid
        index, valid = sample_rois(
            foreground,
            valid & ~foreground,
            self.train_cfg['num_samples'],
            self.train_cfg['pos_fraction'],
        )
        bboxes = bboxes.gather(1, index[..., None].expand(-1, -1, 4))
        return RoIs(torch.where(valid[..., None], bboxes, 0), valid)

    def forward(
        self,
        x: Sequence[Tensor],
        rpn_results_list: list[InstanceData],
        batch_data_samples: list,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Classify and refine all proposals; none is dropped.

        Args:
            x: Same as for ``loss``.
            rpn_results_list: Same as for ``loss``.
            batch_data_samples: Samples with the meta entry ``img_shape``.

        Returns:
            For each stage the class logits (B, N, num_classes + 1), background last, and the
            refined boxes (B, N, 4), clipped to the image, xyxy in input pixels.
        """
        rois, _ = stack_proposals(rpn_results_list)
        limits = image_limits([sample.metainfo for sample in batch_data_samples], x[0].device)
        feats = self._to_float(x)
        all_logits, all_bboxes = [], []
        for head in self.stages:
            logits, deltas = self._forward_stage(head, feats, rois, x[0].dtype)
            rois = RoIs(_decode_inside(head, rois.bboxes, deltas, limits), rois.valid)
            all_logits.append(logits)
            all_bboxes.append(rois.bboxes)
        return all_logits, all_bboxes

    def predict(
        self,
        x: Sequence[Tensor],
        rpn_results_list: list[InstanceData],
        batch_data_samples: list,
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Detect objects.

        Args:
            x: Same as for ``loss``.
            rpn_results_list: Same as for ``loss``, with ``scores`` (n,), 0 in padding.
            batch_data_samples: Samples with the meta entries ``img_shape`` and, to rescale,
                ``scale_factor`` (w, h), ``ori_shape`` and, if the image does not start at the
                left-top corner of the input, ``pad_offset`` (x, y in input pixels).
            rescale: Whether to convert to pixels of the original image. Boxes that are empty
                after clipping are dropped only then.

        Returns:
            Per image ``bboxes`` (n, 4) xyxy, ``scores`` (n,) and ``labels`` (n,), best first.
        """
        all_logits, all_bboxes = self(x, rpn_results_list, batch_data_samples)
        _, proposal_scores = stack_proposals(rpn_results_list)
        chance = sum(logits.softmax(-1) for logits in all_logits)[..., :-1] / self.num_stages
        scores = (chance * proposal_scores[..., None]).sqrt()
        results = []
        for bboxes, score, sample in zip(all_bboxes[-1], scores, batch_data_samples, strict=True):
            found = self._detect(bboxes, score)
            if rescale:
                meta = sample.metainfo
                found = keep_inside(to_original(found, meta), meta['ori_shape'][:2])
            results.append(found)
        return results

    def _detect(self, bboxes: Tensor, scores: Tensor) -> InstanceData:
        """Select detections from boxes (N, 4) and scores (N, num_classes) of an image."""
        roi, labels = (scores > self.test_cfg['score_thr']).nonzero(as_tuple=True)
        found = InstanceData(bboxes=bboxes[roi], scores=scores[roi, labels], labels=labels)
        return suppress(found, self.test_cfg['nms'], self.test_cfg['max_per_img'])

    def _to_float(self, x: Sequence[Tensor]) -> list[Tensor]:
        # Once for all stages. RoIAlign needs boxes of the same type as the maps, and it does not
        # exist in half precision on NPUs or, for bfloat16, on CPUs.
        return [feat.float() for feat in x[: self.bbox_roi_extractor.num_inputs]]

    def _forward_stage(
        self, head: BBoxHead, feats: list[Tensor], rois: RoIs, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, N, num_classes + 1) and deltas (B, N, 4), float32; 0 if skipped."""
        batch, count = rois.valid.shape
        image = torch.arange(batch, device=rois.bboxes.device)[:, None, None]
        image = image.expand(-1, count, -1).to(rois.bboxes)
        flat = torch.cat([image, rois.bboxes], dim=-1).flatten(0, 1)
        fixed = flat.device.type == 'npu' if self.fixed_shape is None else self.fixed_shape
        if not fixed:
            (index,) = rois.valid.flatten().nonzero(as_tuple=True)
            flat = flat[index]
        pooled = self.bbox_roi_extractor(feats, flat, fixed_shape=fixed)
        if pooled.requires_grad:
            pooled.register_hook(lambda gradient: gradient / self.num_stages)
        outputs = [values.float() for values in head(pooled.to(dtype))]
        if not fixed:
            outputs = [
                values.new_zeros(batch * count, values.shape[1]).index_copy(0, index, values)
                for values in outputs
            ]
        logits, deltas = (values.unflatten(0, (batch, count)) for values in outputs)
        return logits, deltas

    @staticmethod
    def _loss_stage(
        head: BBoxHead, logits: Tensor, deltas: Tensor, rois: RoIs, targets: RoITargets
    ) -> dict[str, Tensor]:
        count = rois.valid.sum().clamp(min=1)
        foreground = targets.foreground & rois.valid
        labels = torch.where(foreground, targets.labels, head.num_classes)
        # Replace both sides where nothing is learned: padding has no logarithm of its size.
        wanted = head.bbox_coder.encode(rois.bboxes, targets.bboxes)
        wanted = torch.where(foreground[..., None], wanted, 0)
        deltas = torch.where(foreground[..., None], deltas, 0)
        right = (logits.detach().argmax(-1) == labels) & rois.valid
        return dict(
            loss_cls=head.loss_cls(
                logits.flatten(0, 1),
                labels.flatten(),
                rois.valid.flatten(),
                avg_factor=count,
            ),
            loss_bbox=head.loss_bbox(deltas, wanted, reduction_override='sum') / count,
            acc=right.sum() * 100 / count,
        )


def stack_proposals(proposals: list[InstanceData]) -> tuple[RoIs, Tensor]:
    """Pad the proposals of each image to the same number N.

    Returns:
        The proposals and their scores (B, N), which are 0 in padding and if missing.
    """
    bboxes = pad_sequence([each.bboxes.float() for each in proposals], batch_first=True)
    ones = bboxes.new_ones(bboxes.shape[1], dtype=torch.bool)
    valid = pad_sequence(
        [each.get('valid', ones[: len(each)]) for each in proposals], batch_first=True
    )
    zeros = bboxes.new_zeros(bboxes.shape[1])
    scores = pad_sequence(
        [each.get('scores', zeros[: len(each)]).float() for each in proposals], batch_first=True
    )
    return RoIs(bboxes, valid), scores


def image_limits(metas: Sequence[dict], device: torch.device) -> Tensor:
    """Return the largest x, y, x, y of boxes in each image, (B, 1, 4), in input pixels."""
    limits = torch.tensor(
        [[*meta['img_shape'][1::-1]] * 2 for meta in metas],
        dtype=torch.float32,
        # With memory that is not pinned, accelerators make the host wait before the copy.
        pin_memory=device.type not in ('cpu', 'meta'),
    )
    return limits.to(device, non_blocking=True)[:, None]


@torch.no_grad()
def _decode_inside(head: BBoxHead, bboxes: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
    """Decode boxes (B, N, 4) and clip them to their images."""
    return torch.minimum(head.bbox_coder.decode(bboxes, deltas).clamp(min=0), limits)
