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

from mmface.evaluation.matched import MatchCollector, Matched, collect, cumulate
from mmface.evaluation.nme import mean_error
from mmface.evaluation.wider_gt import WiderGroundTruth
from mmface.evaluation.wider_match import ImageMatch, check_protocol
from mmface.evaluation.wider_result import WiderResult


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
    return evaluate_matched(match_rows(gt, rows, protocol, iou_thr))


def match_rows(
    gt: WiderGroundTruth,
    rows: Mapping[str, NDArray[np.floating]],
    protocol: str = 'float',
    iou_thr: float = 0.5,
) -> Matched:
    """Match detections given as arrays, and keep their boxes; see ``evaluate_rows``."""
    check_protocol(protocol, iou_thr)
    collector = MatchCollector(gt, protocol, iou_thr, keep_boxes=True)
    names = [name for name in gt.names if name in rows]
    tables = [np.asarray(rows[name], np.float64).reshape(-1, 5) for name in names]
    if names:
        counts = [len(table) for table in tables]
        collector.add([gt.index[name] for name in names], np.concatenate(tables), counts)
    return collector.finish(sum(name not in gt.known for name in rows))


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
    return evaluate_matched(collect(gt, matches, protocol, iou_thr))


def evaluate_matched(matched: Matched) -> WiderResult:
    """Evaluate a data set that is already matched."""
    gt, scores = matched.gt, matched.scores
    result = WiderResult(
        ap={},
        precision={},
        recall={},
        faces={subset: int(gt.keep[subset].sum()) for subset in gt.subsets},
        protocol=matched.protocol,
        iou_thr=matched.iou_thr,
        partial=gt.partial,
        images=len(gt.names),
        detections=len(scores),
        missing=list(matched.missing),
        extra=matched.extra,
    )
    for subset in gt.subsets:
        proposals, recalled = count_along_scores(matched, gt.keep[subset])
        with np.errstate(divide='ignore', invalid='ignore'):
            result.precision[subset] = recalled / proposals
            result.recall[subset] = recalled / np.float64(result.faces[subset])
        result.ap[subset] = average_precision(result.recall[subset], result.precision[subset])
        if matched.point_errors is not None:
            result.nme[subset] = mean_error(matched.point_errors[gt.keep[subset]])
    if len(scores) and scores.min() == scores.max():
        result.notes.append(
            f'all {len(scores)} scores are equal ({scores[0]:g}): the protocol divides by their '
            'range, so no detection counts and AP is 0'
        )
    return result


def count_along_scores(
    matched: Matched,
    keep: NDArray[np.bool_],
    images: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count proposals and recalled faces at each of the 1000 thresholds, highest first.

    Args:
        matched: The detections.
        keep: Shape (faces,): the faces that count. Detections on the others are dropped.
        images: Shape (images,): the images that count; None means all.

    Returns:
        Proposals and recalled faces, each of shape (1000,).
    """
    hits = matched.hits
    counts = keep[matched.face[hits]]
    if images is None:
        false_finds = matched.false_finds
    else:
        counts &= images[matched.image[hits]]
        false_finds = cumulate(matched.bins[matched.unmatched & images[matched.image]])
    bins = matched.bins[hits]
    return (
        false_finds + cumulate(bins[counts]),
        cumulate(bins[counts & matched.first[hits]]),
    )


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
