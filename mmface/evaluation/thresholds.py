# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What a detector does at each score threshold, and which threshold to use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.matched import Matched
from mmface.evaluation.wider_ap import count_along_scores


@dataclass(frozen=True)
class Operation:
    """Numbers along the 1000 thresholds of the protocol, highest first, each of shape (1000,).

    A detection on an ignored face counts nowhere. A second detection on a face that counts is a
    false find, as in the protocol.
    """

    scores: NDArray[np.float64]
    """Thresholds in units of the detector's scores; a detection counts from its threshold on."""
    precision: NDArray[np.float64]
    """NaN where there is no detection."""
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    """Harmonic mean of precision and recall; 0 where there is no detection."""
    false_per_image: NDArray[np.float64]
    """False finds per image that has a labelled face."""

    @property
    def best_f1(self) -> int:
        """Index of the highest threshold of the best F1."""
        return int(np.argmax(self.f1))

    def for_precision(self, wanted: float) -> int | None:
        """Return the index of the lowest threshold from which on precision is high enough.

        At this threshold and at every higher one, the precision is at least ``wanted``. None if
        the highest threshold with a detection already has less.
        """
        low = np.flatnonzero(self.precision < wanted)
        end = int(low[0]) if len(low) else len(self.precision)
        known = np.flatnonzero(np.isfinite(self.precision[:end]))
        return int(known[-1]) if len(known) else None


def operate(matched: Matched, keep: NDArray[np.bool_]) -> Operation:
    """Return the numbers along the thresholds.

    Args:
        matched: The detections.
        keep: Shape (faces,): the faces that count.
    """
    proposals, recalled = count_along_scores(matched, keep)
    with np.errstate(divide='ignore', invalid='ignore'):
        precision = recalled / proposals
        recall = recalled / np.float64(keep.sum())
        f1 = 2 * precision * recall / (precision + recall)
    images = int((np.diff(matched.gt.splits) > 0).sum())
    return Operation(
        matched.score_thresholds,
        precision,
        recall,
        np.nan_to_num(f1),
        (proposals - recalled) / max(images, 1),
    )
