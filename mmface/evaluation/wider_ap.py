# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Average precision on WIDER FACE easy, medium and hard, in pure numpy.

The benchmark counts in this way. Scores are normalised to 0..1 over all images. At each of 1000
thresholds, a detection is a proposal unless the face it hits lies outside the subset. The first
proposal on a face of the subset recalls it, later ones are false positives. Detections on images
without any face are ignored. AP is the area under the envelope of precision over recall, as in
PASCAL VOC since 2010.

Example:
    >>> gt = read_ground_truth('data/WIDERFace/val/gt')
    >>> rows = read_predictions('work_dirs/predictions', gt).rows
    >>> evaluate_rows(gt, rows).ap['hard']
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.wider_gt import SUBSETS, WiderGroundTruth
from mmface.evaluation.wider_match import ImageMatch, check_protocol, match_images
from mmface.evaluation.wider_result import WiderResult

NUM_THRESHOLDS = 1000
# Written as in the official code, 1 - t / 1000. (1000 - t) / 1000 rounds differently for some t.
THRESHOLDS = 1 - np.arange(1, NUM_THRESHOLDS + 1) / NUM_THRESHOLDS

_NO_DETECTIONS = ImageMatch(np.empty(0, np.float64), np.empty(0, np.int32))


def evaluate_rows(
    gt: WiderGroundTruth,
    rows: Mapping[str, NDArray[np.floating]],
    protocol: str = 'float',
    iou_thr: float = 0.5,
) -> WiderResult:
    """Evaluate detections given as arrays.

    Args:
        gt: The ground truth, restricted if only a part is evaluated.
        rows: Arrays of shape (n, 5) by ``event/stem``, finite: x, y, w, h in pixels of the
            original image and score, in any order.
        protocol: ``float`` or ``official``.
        iou_thr: Minimum IoU of a hit.

    Raises:
        ValueError: The protocol is unknown or the threshold invalid, see ``check_protocol``.
    """
    names = [name for name in gt.names if name in rows]
    matches = match_images(
        [rows[name] for name in names],
        [gt.boxes_of(gt.index[name]) for name in names],
        iou_thr,
        protocol,
    )
    result = evaluate(gt, dict(zip(names, matches, strict=True)), protocol, iou_thr)
    result.extra = sum(name not in gt.known for name in rows)
    return result


def evaluate(
    gt: WiderGroundTruth,
    matches: Mapping[str, ImageMatch],
    protocol: str = 'float',
    iou_thr: float = 0.5,
) -> WiderResult:
    """Evaluate matched images.

    An image without an entry counts as one without detections and is listed in ``missing``.
    Images that are not in the ground truth change neither the counts nor the score range.

    Args:
        gt: The ground truth, restricted if only a part is evaluated.
        matches: Results of ``match_image`` by ``event/stem``, for the same protocol and IoU
            threshold.
        protocol: ``float`` or ``official``.
        iou_thr: Minimum IoU of a hit. It is only recorded in the result.

    Raises:
        ValueError: The protocol is unknown or the threshold invalid, see ``check_protocol``.
    """
    check_protocol(protocol, iou_thr)
    missing = [name for name in gt.names if name not in matches]
    ordered = [matches.get(name, _NO_DETECTIONS) for name in gt.names]
    counts = np.array([len(match.scores) for match in ordered])
    scores = np.concatenate([match.scores for match in ordered]).astype(np.float64)
    local = np.concatenate([match.gt_index for match in ordered])
    face = np.where(local < 0, -1, local + np.repeat(gt.splits[:-1], counts))
    has_faces = np.repeat(np.diff(gt.splits) > 0, counts)

    bins = _threshold_bins(_normalise(scores, protocol))
    hit = face >= 0
    first = np.zeros(len(face), bool)
    # Of equal indices numpy keeps the last assignment. In reverse order it is the highest score.
    first_on_face = np.full(len(gt.boxes), -1, np.int64)
    first_on_face[face[hit][::-1]] = np.flatnonzero(hit)[::-1]
    first[first_on_face[first_on_face >= 0]] = True

    result = WiderResult(
        ap={},
        precision={},
        recall={},
        faces={subset: int(gt.keep[subset].sum()) for subset in SUBSETS},
        protocol=protocol,
        iou_thr=iou_thr,
        partial=gt.partial,
        images=len(gt.names),
        detections=len(scores),
        missing=missing,
        extra=sum(name not in gt.known for name in matches),
    )
    for subset in SUBSETS:
        counts_here = np.zeros(len(face), bool)
        counts_here[hit] = gt.keep[subset][face[hit]]
        proposals = _cumulate(bins[has_faces & (~hit | counts_here)])
        recalled = _cumulate(bins[first & counts_here])
        with np.errstate(divide='ignore', invalid='ignore'):
            result.precision[subset] = recalled / proposals
            result.recall[subset] = recalled / np.float64(result.faces[subset])
        result.ap[subset] = average_precision(result.recall[subset], result.precision[subset])
    if len(scores) and scores.min() == scores.max():
        result.notes.append(
            f'all {len(scores)} scores are equal ({scores[0]:g}): the protocol divides by their '
            'range, so no detection counts and AP is 0'
        )
    return result


def average_precision(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Return the area under the precision envelope over all points, as PASCAL VOC since 2010.

    Args:
        recall: Shape (n,), never decreasing.
        precision: Shape (n,); NaN where there is no proposal.

    Returns:
        The area, or NaN if a recall is NaN (a subset without faces).
    """
    if np.isnan(recall).any():
        return float('nan')
    r = np.concatenate([[0.0], recall, [1.0]])
    p = np.concatenate([[0.0], np.nan_to_num(precision, nan=0.0), [0.0]])
    envelope = np.maximum.accumulate(p[::-1])[::-1]
    return float(np.sum(np.diff(r) * envelope[1:]))


def _normalise(scores: NDArray[np.float64], protocol: str) -> NDArray[np.floating]:
    """Map the scores of all images to 0..1 by their range; NaN if all are equal."""
    if not len(scores):
        return scores
    if protocol == 'float':
        low, high = scores.min(), scores.max()
    else:
        # norm_score.m starts with max = realmin('single') and min = realmax('single'), and
        # single with double is single in MATLAB. So all-negative scores keep max = 1.2e-38.
        limits = np.finfo(np.float32)
        with np.errstate(over='ignore'):
            scores = scores.astype(np.float32)
        low, high = min(scores.min(), limits.max), max(scores.max(), limits.tiny)
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        return (scores - low) / (high - low)


def _threshold_bins(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the index of the first threshold that each score reaches, 1000 for none."""
    ascending = THRESHOLDS[::-1]
    bins = NUM_THRESHOLDS - np.searchsorted(ascending, scores.astype(np.float64), side='right')
    return np.where(np.isnan(scores), NUM_THRESHOLDS, bins)


def _cumulate(bins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the entries that have reached each threshold, shape (1000,)."""
    return np.cumsum(np.bincount(bins, minlength=NUM_THRESHOLDS + 1)[:NUM_THRESHOLDS])
