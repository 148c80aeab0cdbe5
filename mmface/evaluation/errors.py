# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What kind of errors a detector makes, and the AP that each kind costs.

After TIDE (arXiv 2008.08115), for one class, 1000 thresholds, and faces that are ignored. A subset
(easy, medium, hard) makes some faces count; the others are ignored. ``a`` is the IoU of a hit (0.5)
and ``b`` = 0.1. IoU is that of the protocol ``float``.

A detection that hits an ignored face counts nowhere in the protocol, so it is no error. The package
``tidecv`` counts it as background. The other detections that are no find belong to one kind each,
in this order:

``duplicate``
    It hits a face that counts, and another detection on it has a higher score (or the same score
    and an earlier row). Mended: it is removed.
``localisation``
    It hits no face. The face that it overlaps most (the first of equals) counts, with an IoU
    between b and a. Mended: it is moved onto that face. Of all detections moved onto a face that
    none hits, the first one finds it. The others, and all that are moved onto a face that another
    detection hits, are removed.
``ignored``
    It hits no face. The face that it overlaps most is ignored, with an IoU between b and a.
    Mended: it is removed.
``background``
    It overlaps no face by b. Mended: it is removed.

``missed``
    A face that counts, that no detection hits, and onto which no localisation error would be moved.
    Mended: it is ignored, as in TIDE.

The cost of a kind is the AP with all errors of this kind mended, minus the AP. The score range
stays the same. The costs do not add up to 1 - AP: mending one kind makes others cost more or less.
Detections on images without any labelled face count nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.matched import Matched, cumulate
from mmface.evaluation.slices import ap_of_counts
from mmface.evaluation.wider_ap import count_along_scores
from mmface.evaluation.wider_match import near_pairs

KINDS = ('missed', 'localisation', 'duplicate', 'background', 'ignored')
NEAR = 0.1

_NO_KIND = -1


@dataclass(frozen=True)
class ErrorResult:
    """The errors on one subset."""

    ap: float
    cost: dict[str, float]
    """By kind: the AP that mending it gains; NaN without faces."""
    count: dict[str, int]
    """By kind: number of detections, or of faces for ``missed``."""
    kind: NDArray[np.int8]
    """Shape (n,): index in ``KINDS`` of each detection that is an error, else -1."""
    missed: NDArray[np.bool_]
    """Shape (faces,): the faces of kind ``missed``."""


@dataclass(frozen=True)
class Neighbours:
    """The face that each detection overlaps most, among those that hit none."""

    face: NDArray[np.int64]
    """Shape (n,): index of the face; -1 if it hits a face, or overlaps none enough."""


def find_neighbours(matched: Matched) -> Neighbours:
    """Find the face that each unmatched detection overlaps most, with an IoU of at least 0.1.

    Raises:
        ValueError: The boxes were not kept.
    """
    if matched.boxes is None:
        raise ValueError('expected matched detections with their boxes (keep_boxes)')
    gt = matched.gt
    free = np.flatnonzero(matched.unmatched)
    images = np.repeat(np.arange(len(gt.names)), np.diff(gt.splits))
    box, face, iou = near_pairs(
        matched.boxes[free],
        matched.image[free].astype(np.int64),
        gt.boxes,
        images,
        min(NEAR, matched.iou_thr),
    )
    nearest = np.full(len(matched.face), -1, np.int64)
    # Highest IoU last, and the first face of equals last: numpy keeps the last assignment.
    order = np.lexsort((face, -iou, box))[::-1]
    nearest[free[box[order]]] = face[order]
    return Neighbours(nearest)


def find_errors(
    matched: Matched, keep: NDArray[np.bool_], neighbours: Neighbours | None = None
) -> ErrorResult:
    """Find and count the errors of a detector on a subset.

    Args:
        matched: The detections with their boxes.
        keep: Shape (faces,): the faces that count.
        neighbours: Result of ``find_neighbours``, if several subsets are evaluated.

    Raises:
        ValueError: The boxes were not kept.
    """
    near = (neighbours or find_neighbours(matched)).face
    kind = np.full(len(near), _NO_KIND, np.int8)
    unmatched = matched.unmatched
    on_face = near >= 0
    counts = np.zeros(len(near), bool)
    counts[on_face] = keep[near[on_face]]
    hits = matched.hits
    again = hits[keep[matched.face[hits]] & ~matched.first[hits]]
    kind[again] = KINDS.index('duplicate')
    kind[unmatched & counts] = KINDS.index('localisation')
    kind[unmatched & on_face & ~counts] = KINDS.index('ignored')
    kind[unmatched & ~on_face] = KINDS.index('background')

    moved = np.flatnonzero(kind == KINDS.index('localisation'))
    found = np.zeros(len(keep), bool)
    found[matched.face[hits]] = True
    # Detections are sorted by score in each image, so the first one has the lowest index.
    faces, first = np.unique(near[moved], return_index=True)
    new = moved[first[~found[faces]]]
    reached = found.copy()
    reached[faces] = True
    missed = keep & ~reached

    proposals, recalled = count_along_scores(matched, keep)
    total = int(keep.sum())
    ap = ap_of_counts(proposals, recalled, total)
    cost, count = {}, {'missed': int(missed.sum())}
    for number, name in enumerate(KINDS):
        if name == 'missed':
            better = ap_of_counts(proposals, recalled, total - count[name])
            # Everything that is found is still found, so no face left means AP is as it was.
            cost[name] = (better if total > count[name] else ap) - ap
            continue
        own = kind == number
        count[name] = int(own.sum())
        fewer = proposals - cumulate(matched.bins[own])
        more = np.zeros_like(fewer)
        if name == 'localisation':
            more = cumulate(matched.bins[new])
        cost[name] = ap_of_counts(fewer + more, recalled + more, total) - ap
    return ErrorResult(ap, cost, {name: count[name] for name in KINDS}, kind, missed)
