# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""ATSS for a whole batch at once, in fixed shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

from mmface.models.task_modules.nearest_priors import (
    PriorGrid,
    alike_levels,
    nearest_in_windows,
    nearest_of_all,
)
from mmface.models.task_modules.padded_ground_truth import PaddedGroundTruth

# Faces of a crowd assigned at a time: the slots of all faces would take gigabytes.
_FACES_AT_ONCE = 1024


class SlotAssignment(NamedTuple):
    """Candidate slots of every face, and which of them became positives.

    A slot is one candidate prior of one face. Each face has the same number S of slots, level by
    level. A prior is positive for at most one face, so the positive slots of an image are exactly
    its positive priors, each once.

    Attributes:
        prior_index: (B, N, S) index of the candidate among all priors.
        positive: (B, N, S) whether the slot is positive.
        iou: (B, N, S) IoU of the prior and the face.
    """

    prior_index: Tensor
    positive: Tensor
    iou: Tensor

    def gt_inds(self, num_priors: int) -> Tensor:
        """Return the face of every prior, (B, num_priors): 1-based, 0 for background."""
        batch, faces, slots = self.prior_index.shape
        number = torch.arange(1, faces + 1, device=self.positive.device)
        number = (number[None, :, None] * self.positive).view(batch, faces * slots)
        out = number.new_zeros(batch, num_priors)
        return out.scatter_reduce_(1, self.prior_index.flatten(1), number, 'amax')


@TASK_UTILS.register_module()
class BatchedATSSAssigner:
    """Adaptive training sample selection (arXiv 1912.02424) as SCRFD uses it.

    On each level the ``topk`` priors with the nearest centres are a face's candidates. Those
    whose IoU reaches the mean plus the standard deviation of all the face's candidates
    and whose centre passes the inside test become positives. A prior claimed by several faces
    goes to the face of highest IoU, or to the first of them on a tie. A face may get no prior.

    The results are those of the per-image assigner (insightface ``atss_assigner.py``). Here no
    shape depends on the values of the data and nothing waits for the device. The nearest priors
    are searched in a small window of cells around the face, which always contains them. This is
    a hundredth of the work of a search over all priors.

    Priors that share a centre tie exactly. With an odd ``topk`` one of them is not a candidate.
    The reference leaves this choice to ``torch.topk``, which differs between kinds of devices;
    here it is always the last one.

    Args:
        topk: Candidates per level and face (all priors of a level that has fewer).
        full_search: Whether to sort all priors of a level as the reference does, with ties
            broken by ``torch.topk``. This gives exactly the reference's choice on the same
            device. For comparisons only.
        inside_mode: Inside test, with d the smallest distance of the prior's centre to the
            sides of the face (negative outside) and s the square root of the face's area:

            * 0: d/s > 0.001 (the default of all published models)
            * 1: d/s > -0.25
            * 2: d/s > -0.15
            * 3: d/s * clip(s/16, 1, 6) > -0.2
            * 4: d/s * clip(s/16, 0.5, 6) > -0.2
            * 5: d/s / clip(s/16, 0.5, 3) > -0.2

    Raises:
        ValueError: ``inside_mode`` is not 0 to 5.
    """

    def __init__(self, topk: int = 9, inside_mode: int = 0, full_search: bool = False) -> None:
        if inside_mode not in range(6):
            raise ValueError(f'inside_mode must be 0 to 5, got {inside_mode!r}')
        self.topk = topk
        self.inside_mode = inside_mode
        self.full_search = full_search

    @torch.no_grad()
    def assign(
        self,
        pred_instances: InstanceData,
        num_level_priors: Sequence[int],
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
    ) -> AssignResult:
        """Assign the priors of one image, as the heads of mmdet for ATSS ask for it.

        SCRFD uses ``assign_batch``. This searches all priors, because such heads leave some out.

        Args:
            pred_instances: With ``priors``, (A, 4 or more), xyxy in input pixels.
            num_level_priors: Number of priors of each level.
            gt_instances: With ``bboxes`` (N, 4), xyxy in input pixels, and ``labels`` (N,).
            gt_instances_ignore: Not used: ignored faces are background, as in SCRFD.

        Raises:
            ValueError: The head does not give the number of priors of each level.
        """
        if isinstance(num_level_priors, InstanceData):
            raise ValueError(
                'BatchedATSSAssigner expects the number of priors of each level, as GFLHead and '
                'ATSSHead of mmdet give it; this head gives none: use MaxIoUAssigner'
            )
        priors = pred_instances.priors[:, :4]
        # One more row, which is masked: an image without a face has a row, too.
        bboxes = F.pad(gt_instances.bboxes, (0, 0, 0, 1))[None]
        labels = F.pad(gt_instances.labels, (0, 1), value=-1)
        mask = torch.arange(len(labels), device=labels.device)[None] < len(gt_instances)
        grids = [PriorGrid(1, int(count), 1, (1.0, 1.0)) for count in num_level_priors if count]
        candidates = self.candidates(priors, grids, bboxes, full_search=True)
        slots = self.assign_candidates(priors, candidates, bboxes, mask)
        gt_inds = slots.gt_inds(len(priors))[0]
        iou = torch.where(slots.positive, slots.iou, 0).flatten()
        overlaps = iou.new_zeros(len(priors))
        overlaps.scatter_reduce_(0, slots.prior_index.flatten(), iou, 'amax')
        return AssignResult(len(gt_instances), gt_inds, overlaps, labels=labels[gt_inds - 1])

    @torch.no_grad()
    def assign_batch(
        self, priors: Tensor, grids: Sequence[PriorGrid], gt_bboxes: Tensor, gt_mask: Tensor
    ) -> SlotAssignment:
        """Assign priors to the faces of a batch.

        Args:
            priors: (A, 4) boxes of all levels, xyxy in input pixels.
            grids: Layout of the priors of each level; their sizes add up to A.
            gt_bboxes: (B, N, 4) padded faces, xyxy in input pixels.
            gt_mask: (B, N) which faces are real.

        Returns:
            The slots, S = sum over levels of min(topk, priors of the level).
        """
        candidates = self.candidates(priors, grids, gt_bboxes)
        return self.assign_candidates(priors, candidates, gt_bboxes, gt_mask)

    def candidates(
        self,
        priors: Tensor,
        grids: Sequence[PriorGrid],
        gt_bboxes: Tensor,
        full_search: bool | None = None,
    ) -> Tensor:
        """Find the nearest priors of each level, (B, N, S) indices into ``priors``.

        ``full_search`` as in the class, whose value is the default.
        """
        full_search = self.full_search if full_search is None else full_search
        gt_centres = ((gt_bboxes[..., :2] + gt_bboxes[..., 2:]) / 2).flatten(0, 1)
        found = []
        start = 0
        for alike in alike_levels(tuple(grids), self.topk, together=not full_search):
            count = min(self.topk, alike[0].size)
            if full_search:
                level = priors[start : start + alike[0].size]
                nearest = nearest_of_all((level[:, :2] + level[:, 2:]) / 2, gt_centres, count)
            else:
                nearest = nearest_in_windows(alike, gt_centres, count)
            found.append(nearest + start)
            start += sum(grid.size for grid in alike)
        return torch.cat(found, dim=1).unflatten(0, gt_bboxes.shape[:2])

    def assign_candidates(
        self, priors: Tensor, candidates: Tensor, gt_bboxes: Tensor, gt_mask: Tensor
    ) -> SlotAssignment:
        """Decide which of the given candidates are positive; see ``assign_batch``."""
        boxes = priors[candidates]
        gts = gt_bboxes[:, :, None]
        iou = box_iou(boxes, gts)
        threshold = iou.mean(-1, keepdim=True) + iou.std(-1, keepdim=True)
        positive = (iou >= threshold) & self._inside(boxes, gts) & gt_mask[..., None]

        index = candidates.flatten(1)
        claim = torch.where(positive, iou, -1).flatten(1)
        best = claim.new_full((len(claim), len(priors)), -1)
        best = best.scatter_reduce_(1, index, claim, 'amax')
        wins = positive & (claim == best.gather(1, index)).view_as(positive)

        faces = wins.shape[1]
        face = torch.arange(faces, device=wins.device)[None, :, None].expand_as(wins)
        face = torch.where(wins, face, faces).flatten(1)
        first = face.new_full((len(face), len(priors)), faces)
        first = first.scatter_reduce_(1, index, face, 'amin')
        wins = wins & (face == first.gather(1, index)).view_as(wins)
        return SlotAssignment(candidates, wins, iou)

    @torch.no_grad()
    def assign_crowd(
        self, priors: Tensor, grids: Sequence[PriorGrid], gt: PaddedGroundTruth
    ) -> tuple[SlotAssignment, PaddedGroundTruth]:
        """Assign priors to so many faces that their slots would not fit into memory.

        The priors get the same faces as with ``assign_batch``, some faces at a time. The result
        has one slot for each prior instead of S slots for each face, so its size is that of the
        maps.

        Args:
            priors: Same as for ``assign_batch``.
            grids: Same as for ``assign_batch``.
            gt: The padded faces.

        Returns:
            Slots (B, A, 1), where slot a belongs to prior a, and the faces of the priors (B, A),
            masked where a prior has no face.
        """
        batch, count = len(gt.bboxes), len(priors)
        owner = torch.zeros(batch, count, dtype=torch.long, device=priors.device)
        best = priors.new_full((batch, count), -1)
        for start in range(0, gt.bboxes.shape[1], _FACES_AT_ONCE):
            part = slice(start, start + _FACES_AT_ONCE)
            slots = self.assign_batch(priors, grids, gt.bboxes[:, part], gt.mask[:, part])
            number = slots.gt_inds(count)
            claim = torch.where(slots.positive, slots.iou, -1).flatten(1)
            iou = torch.full_like(best, -1)
            iou.scatter_reduce_(1, slots.prior_index.flatten(1), claim, 'amax')
            # On a tie the first face wins, as within a part.
            better = iou > best
            owner = torch.where(better, number - 1 + start, owner)
            best = torch.where(better, iou, best)
        positive = best >= 0
        index = torch.arange(count, device=priors.device)[None, :, None].expand(batch, -1, -1)
        faces = PaddedGroundTruth(
            _rows(gt.bboxes, owner),
            gt.labels.gather(1, owner),
            positive,
            None if gt.keypoints is None else _rows(gt.keypoints, owner),
        )
        return SlotAssignment(index, positive[..., None], best[..., None]), faces

    def _inside(self, boxes: Tensor, gts: Tensor) -> Tensor:
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        sides = torch.cat([centre - gts[..., :2], gts[..., 2:] - centre], dim=-1)
        width_height = gts[..., 2:] - gts[..., :2]
        size = width_height.prod(-1).clamp(min=1e-4).sqrt()
        depth = sides.amin(-1) / size
        mode = self.inside_mode
        if mode <= 2:
            return depth > (0.001, -0.25, -0.15)[mode]
        if mode == 5:
            return depth / (size / 16).clamp(0.5, 3) > -0.2
        return depth * (size / 16).clamp((1, 0.5)[mode - 3], 6) > -0.2


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Select rows (B, A) of values (B, N, ...)."""
    flat = values.flatten(2)
    taken = flat.gather(1, index[..., None].expand(-1, -1, flat.shape[-1]))
    return taken.unflatten(-1, values.shape[2:])


def box_iou(boxes: Tensor, others: Tensor, eps: float = 1e-6) -> Tensor:
    """Compute the IoU of xyxy boxes whose shapes broadcast; the union is at least ``eps``.

    The values equal those of mmdet's ``bbox_overlaps``, which uploads ``eps`` in every call.
    """
    top_left = torch.maximum(boxes[..., :2], others[..., :2])
    bottom_right = torch.minimum(boxes[..., 2:], others[..., 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).prod(-1) for b in (boxes, others)]
    return overlap / (areas[0] + areas[1] - overlap).clamp(min=eps)
