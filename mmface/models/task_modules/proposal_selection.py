# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Selection of the best boxes of each image from maps of scores and distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmface.models.task_modules.device_nms import batched_nms

# Shortest side of a box in pixels (CenterNet2 ``predict_single_level``): RoI heads need its log.
_SHORTEST_SIDE = 0.01


class Candidates(NamedTuple):
    """The best boxes of B images, T per image, level by level.

    Attributes:
        bboxes: (B, T, 4) xyxy in input pixels, not clipped.
        scores: (B, T) scores; 0 where not valid.
        labels: (B, T) channels of the score maps.
        valid: (B, T) whether the score is above the threshold.
    """

    bboxes: Tensor
    scores: Tensor
    labels: Tensor
    valid: Tensor


def best_candidates(
    scores: Sequence[Tensor],
    distances: Sequence[Tensor],
    strides: Sequence[int],
    score_thr: float,
    topk: int,
    factors: Sequence[Tensor] | None = None,
) -> Candidates:
    """Select the cells with the highest scores of each level.

    Args:
        scores: (B, C, H, W) for each level, not negative.
        distances: (B, 4, H, W) for each level: left, top, right, bottom in strides.
        strides: Input pixels per cell of each level.
        score_thr: Scores must be above it to be valid.
        topk: Number of cells per level and image (all cells of a level that has fewer).
        factors: (B, 1, H, W) for each level: factors of the scores, applied after the threshold.

    Returns:
        The candidates; T = sum over levels of min(topk, C * H * W), whatever the scores.
    """
    levels = []
    for level, stride in enumerate(strides):
        height, width = scores[level].shape[-2:]
        rank = scores[level]
        if factors is not None:
            rank = rank * factors[level]
        rank = torch.where(scores[level] > score_thr, rank, -1).flatten(1)
        rank, place = rank.topk(min(topk, rank.shape[1]))
        cell = place % (height * width)
        index = cell[:, None].expand(-1, 4, -1)
        left, top, right, bottom = (distances[level].flatten(2).gather(2, index) * stride).unbind(1)
        x = cell % width * stride + stride / 2
        y = cell // width * stride + stride / 2
        x1, y1 = x - left, y - top
        x2 = torch.maximum(x + right, x1 + _SHORTEST_SIDE)
        y2 = torch.maximum(y + bottom, y1 + _SHORTEST_SIDE)
        bboxes = torch.stack([x1, y1, x2, y2], dim=-1)
        levels.append(Candidates(bboxes, rank.clamp(min=0), place // (height * width), rank >= 0))
    return Candidates(*(torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)))


def suppress_rows(
    candidates: Candidates,
    nms: Mapping[str, Any],
    max_per_img: int,
    class_agnostic: bool,
    ties: bool = True,
) -> list[Tensor]:
    """Suppress overlapping candidates, image by image.

    Args:
        candidates: The candidates. Those that are not valid have no effect.
        nms: Config of mmcv's NMS.
        max_per_img: Number of candidates kept in each image.
        class_agnostic: Whether boxes of different labels also suppress each other.
        ties: Whether to keep more if several share the score of the last one, as CenterNet2 does
            (``nms_and_topK``).

    Returns:
        For each image the rows (n,) of the kept candidates, best first.
    """
    # Invalid candidates come last and all have the same box, so that NMS removes them quickly.
    unit = torch.arange(4, device=candidates.valid.device).ge(2).to(candidates.bboxes.dtype)
    bboxes = torch.where(candidates.valid[..., None], candidates.bboxes, unit)
    rank = torch.where(candidates.valid, candidates.scores, -1)
    kept = []
    for image, valid in enumerate(candidates.valid):
        labels = candidates.labels[image]
        _, keep = batched_nms(bboxes[image], rank[image], labels, dict(nms), class_agnostic)
        keep = keep[valid[keep]]
        if len(keep) > max_per_img:
            score = rank[image][keep]
            keep = keep[score >= score[max_per_img - 1]] if ties else keep[:max_per_img]
        kept.append(keep)
    return kept


def suppress_fixed(
    candidates: Candidates, nms: Mapping[str, Any], max_per_img: int, class_agnostic: bool
) -> tuple[Tensor, Tensor]:
    """Suppress overlapping candidates and return the same number of rows for each image.

    Args:
        candidates: See ``suppress_rows``.
        nms: See ``suppress_rows``.
        max_per_img: Number of rows of the result, K.
        class_agnostic: See ``suppress_rows``.

    Returns:
        (B, K) rows of the kept candidates, best first, 0 in padding, and (B, K) whether the row
        is a kept candidate.
    """
    kept = suppress_rows(candidates, nms, max_per_img, class_agnostic, ties=False)
    rows = candidates.labels.new_zeros(len(kept), max_per_img)
    real = candidates.valid.new_zeros(len(kept), max_per_img)
    for image, keep in enumerate(kept):
        rows[image, : len(keep)] = keep
        real[image, : len(keep)] = True
    return rows, real
