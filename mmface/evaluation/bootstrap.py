# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""How sure an AP is, and the difference of two: intervals by the bootstrap over images.

A draw takes as many images as there are, with replacement. An image that is drawn twice counts
twice: its faces, its hits and its false finds. Images whose faces are all ignored stay in, because
their false finds count. The score range stays that of the whole set, so that every detection keeps
its threshold. Two detectors are compared on the same draws.

The counts of every image at every threshold are computed once. A draw is then a weighted sum of
them, and all draws together are one product of matrices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.matched import NUM_THRESHOLDS, Matched

DRAWS = 1000
_BLOCK = 250  # draws at once: 2 MB for each array


@dataclass(frozen=True)
class Interval:
    """A value, and the range that 95 % of the draws give (percentiles)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """AP of one detector minus that of another."""

    interval: Interval
    p: float
    """Two-sided p: twice the share of draws on the rarer side of 0, at least 2 / (draws + 1).

    NaN if a draw has no value.
    """


def draw_weights(images: int, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float32]:
    """Return how often each draw takes each image, shape (draws, images)."""
    rng = np.random.default_rng(seed)
    weights = np.empty((draws, images), np.float32)
    for row in weights:
        row[:] = np.bincount(rng.integers(0, images, images), minlength=images)
    return weights


def ap_of_draws(
    matched: Matched, subsets: Sequence[str], weights: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Return the AP of every draw.

    Args:
        matched: The detections.
        subsets: Names of subsets of the ground truth.
        weights: Shape (draws, images), whole numbers.

    Returns:
        By subset, shape (draws,); NaN for a draw without a face of the subset.
    """
    gt = matched.gt
    images = len(gt.names)
    hits = matched.hits
    false_finds = _histogram(matched, np.flatnonzero(matched.unmatched), images)
    found = {}
    for subset in subsets:
        own = hits[gt.keep[subset][matched.face[hits]]]
        proposals = false_finds + _histogram(matched, own, images)
        recalled = _histogram(matched, own[matched.first[own]], images)
        starts = np.concatenate([[0], np.cumsum(gt.keep[subset])])
        faces = starts[gt.splits[1:]] - starts[gt.splits[:-1]]
        found[subset] = np.concatenate(
            [
                _weighted_ap(weights[start : start + _BLOCK], proposals, recalled, faces)
                for start in range(0, len(weights), _BLOCK)
            ]
        )
    return found


def interval(value: float, draws: NDArray[np.float64]) -> Interval:
    """Return the 95 % interval of a value; NaN if a draw has no value."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def difference(
    first: float, second: float, draws_of_first: NDArray, draws_of_second: NDArray
) -> Difference:
    """Compare two detectors on the same draws.

    Args:
        first: AP of the first detector on all images.
        second: AP of the second one.
        draws_of_first: Shape (draws,), AP of each draw.
        draws_of_second: The same of the second detector, for the same draws.
    """
    gaps = draws_of_first - draws_of_second
    rarer = min((gaps <= 0).sum(), (gaps >= 0).sum())
    known = not np.isnan(gaps).any()  # as the interval
    p = min(1.0, 2 * (rarer + 1) / (len(gaps) + 1)) if known else float('nan')
    return Difference(interval(first - second, gaps), float(p))


def compare_all(
    ap: Mapping[str, float], draws: Mapping[str, NDArray]
) -> dict[tuple[str, str], Difference]:
    """Compare every two detectors, in the given order."""
    names = list(ap)
    return {
        (first, second): difference(ap[first], ap[second], draws[first], draws[second])
        for number, first in enumerate(names)
        for second in names[number + 1 :]
    }


def _histogram(matched: Matched, chosen: NDArray[np.int64], images: int) -> NDArray[np.float32]:
    """Count detections by image and threshold, shape (images, 1000)."""
    width = NUM_THRESHOLDS + 1
    flat = matched.image[chosen].astype(np.int64) * width + matched.bins[chosen]
    counts = np.bincount(flat, minlength=images * width).reshape(images, width)
    return counts[:, :NUM_THRESHOLDS].astype(np.float32)


def _weighted_ap(
    weights: NDArray[np.float32],
    proposals: NDArray[np.float32],
    recalled: NDArray[np.float32],
    faces: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the AP of each row of weights."""

    # Sums of whole numbers below 2**24 are exact in float32, whatever their order.
    def summed(counts: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.cumsum((weights @ counts).astype(np.float64), axis=1)

    proposed, hit = summed(proposals), summed(recalled)
    total = weights.astype(np.float64) @ faces
    with np.errstate(divide='ignore', invalid='ignore'):
        precision = np.nan_to_num(hit / proposed)
        recall = hit / total[:, None]
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (np.diff(recall, axis=1, prepend=0) * envelope).sum(axis=1)
