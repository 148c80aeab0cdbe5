# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""All detections of a data set, matched with its faces: what every evaluation starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.nme import face_sizes, point_errors
from mmface.evaluation.wider_gt import WiderGroundTruth
from mmface.evaluation.wider_match import ImageMatch, match_table

NUM_THRESHOLDS = 1000
# Written as in the official code, 1 - t / 1000. (1000 - t) / 1000 rounds differently for some t.
THRESHOLDS = 1 - np.arange(1, NUM_THRESHOLDS + 1) / NUM_THRESHOLDS


@dataclass(frozen=True)
class Matched:
    """Detections by image in the order of the ground truth, by falling score in each image."""

    gt: WiderGroundTruth
    """The ground truth, restricted if only a part is evaluated."""
    protocol: str
    """``float`` or ``official``."""
    iou_thr: float
    """Minimum IoU of a hit."""
    counts: NDArray[np.int64]
    """Shape (images,): number of detections."""
    scores: NDArray[np.float64]
    """Shape (n,), as given by the detector."""
    face: NDArray[np.int32]
    """Shape (n,): index in ``gt.boxes`` of the face that each detection hits, -1 for none."""
    missing: list[str]
    """Images without an entry; they count as without detections."""
    extra: int
    """Number of predicted images that are not in the ground truth; they are ignored."""
    boxes: NDArray[np.float64] | None = None
    """Shape (n, 4): x, y, w, h in pixels, if they were kept."""
    points: NDArray[np.float64] | None = None
    """Shape (faces, K, 2): keypoints in pixels of the detection of highest score on each face,
    NaN where there are none; None if none were read."""

    @cached_property
    def image(self) -> NDArray[np.int32]:
        """Shape (n,): the image of each detection."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Shape (images + 1,): the detections of image i are ``starts[i]:starts[i + 1]``."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @cached_property
    def bins(self) -> NDArray[np.int16]:
        """Shape (n,): index of the first threshold that each score reaches, 1000 for none."""
        return threshold_bins(normalise(self.scores, self.protocol))

    @cached_property
    def hits(self) -> NDArray[np.int64]:
        """Indices of the detections that hit a face."""
        return np.flatnonzero(self.face >= 0)

    @cached_property
    def unmatched(self) -> NDArray[np.bool_]:
        """Shape (n,): whether a detection hits no face. Images without any face do not count."""
        unmatched = self.face < 0
        empty = np.diff(self.gt.splits) == 0
        if empty.any():
            unmatched &= ~np.repeat(empty, self.counts)
        return unmatched

    @cached_property
    def false_finds(self) -> NDArray[np.int64]:
        """Shape (1000,): number of ``unmatched`` detections at each threshold."""
        return cumulate(self.bins[self.unmatched])

    @cached_property
    def first(self) -> NDArray[np.bool_]:
        """Shape (n,): whether a detection is the highest-scoring one on the face that it hits."""
        hit = self.hits
        # Of equal indices numpy keeps the last assignment. In reverse order it is the first one.
        first_on_face = np.full(len(self.gt.boxes), -1, np.int64)
        first_on_face[self.face[hit][::-1]] = hit[::-1]
        first = np.zeros(len(self.face), bool)
        first[first_on_face[first_on_face >= 0]] = True
        return first

    @cached_property
    def point_errors(self) -> NDArray[np.float64] | None:
        """Shape (faces,): normalised keypoint error, NaN where unknown; None without keypoints."""
        truth = self.gt.keypoints
        if self.points is None or truth is None:
            return None
        return point_errors(self.points, truth, face_sizes(self.gt.boxes, truth))

    @cached_property
    def score_thresholds(self) -> NDArray[np.float64]:
        """Shape (1000,): the thresholds in units of the detector's scores, highest first."""
        if not len(self.scores):
            return THRESHOLDS.copy()
        low, high = self.scores.min(), self.scores.max()
        return low + THRESHOLDS * (high - low)


class MatchCollector:
    """Matches images as they are read, and keeps 12 bytes of each detection, not its row.

    Args:
        gt: The ground truth, restricted if only a part is evaluated.
        protocol: ``float`` or ``official``.
        iou_thr: Minimum IoU of a hit.
        keep_boxes: Whether to keep the boxes too, which takes 32 bytes more.
    """

    def __init__(
        self,
        gt: WiderGroundTruth,
        protocol: str = 'float',
        iou_thr: float = 0.5,
        keep_boxes: bool = False,
    ) -> None:
        self.gt = gt
        self.protocol = protocol
        self.iou_thr = iou_thr
        self.keep_boxes = keep_boxes
        self._parts: dict[int, tuple[NDArray[np.float64], NDArray[np.int32], NDArray | None]] = {}
        self._points: NDArray[np.float64] | None = None

    def add(
        self, images: Sequence[int], table: NDArray[np.float64], counts: Sequence[int]
    ) -> NDArray[np.int32]:
        """Match some images.

        Args:
            images: Indices of the images in the ground truth.
            table: Shape (n, 5 + 2 K), their rows as in ``Chunk``, image by image.
            counts: Number of rows of each image.

        Returns:
            The face in its image that each row hits, -1 for none; rows sorted by score.
        """
        starts = self.gt.splits[list(images)]
        gt_counts = self.gt.splits[np.asarray(images, np.int64) + 1] - starts
        offsets = np.repeat(starts - (np.cumsum(gt_counts) - gt_counts), gt_counts)
        boxes = self.gt.boxes[offsets + np.arange(len(offsets))]
        row_counts = np.asarray(counts, np.int64)
        table, local = match_table(table, row_counts, boxes, gt_counts, self.iou_thr, self.protocol)
        if table.shape[1] > 5:
            self._keep_points(table[:, 5:], local, np.repeat(starts, row_counts))
        scores = np.ascontiguousarray(table[:, 4])
        kept = np.ascontiguousarray(table[:, :4]) if self.keep_boxes else None
        end = 0
        for image, count in zip(images, counts, strict=True):
            start, end = end, end + count
            self._parts[image] = (
                scores[start:end],
                local[start:end],
                None if kept is None else kept[start:end],
            )
        return local

    def _keep_points(self, points: NDArray, local: NDArray, offset: NDArray) -> None:
        points = points.reshape(len(points), -1, 2)
        if self._points is None:
            self._points = np.full((len(self.gt.boxes), *points.shape[1:]), np.nan)
        # Of several on a face, the last assignment stays: that of highest score.
        hit = np.flatnonzero(local >= 0)[::-1]
        self._points[offset[hit] + local[hit]] = points[hit]

    def finish(self, extra: int = 0) -> Matched:
        """Return all images. The collector is empty afterwards."""
        parts, self._parts = self._parts, {}
        empty = (np.empty(0), np.empty(0, np.int32), np.empty((0, 4)))
        ordered = [parts.get(number, empty) for number in range(len(self.gt.names))]
        boxes = None
        if self.keep_boxes:
            boxes = np.concatenate([part[2] for part in ordered if part[2] is not None])
        return Matched(
            self.gt,
            self.protocol,
            self.iou_thr,
            *_join(self.gt, [part[0] for part in ordered], [part[1] for part in ordered]),
            [name for number, name in enumerate(self.gt.names) if number not in parts],
            extra,
            boxes,
            self._points,
        )


def collect(
    gt: WiderGroundTruth, matches: Mapping[str, ImageMatch], protocol: str, iou_thr: float
) -> Matched:
    """Put images together that were matched one by one, without their boxes."""
    none = ImageMatch(np.empty(0), np.empty(0, np.int32))
    ordered = [matches.get(name, none) for name in gt.names]
    return Matched(
        gt,
        protocol,
        iou_thr,
        *_join(gt, [match.scores for match in ordered], [match.gt_index for match in ordered]),
        [name for name in gt.names if name not in matches],
        sum(name not in gt.known for name in matches),
    )


def _join(
    gt: WiderGroundTruth, scores: Sequence[NDArray], local: Sequence[NDArray]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int32]]:
    counts = np.array([len(part) for part in scores], np.int64)
    face = np.concatenate(local).astype(np.int32)
    face += np.where(face < 0, 0, np.repeat(gt.splits[:-1].astype(np.int32), counts))
    return counts, np.concatenate(scores).astype(np.float64, copy=False), face


def normalise(scores: NDArray[np.float64], protocol: str) -> NDArray[np.floating]:
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


def threshold_bins(scores: NDArray[np.floating]) -> NDArray[np.int16]:
    """Return the index of the first threshold that each normalised score reaches."""
    ascending = THRESHOLDS[::-1]
    places = np.searchsorted(ascending, scores.astype(np.float64, copy=False), side='right')
    bins = NUM_THRESHOLDS - places.astype(np.int16)
    bins[np.isnan(scores)] = NUM_THRESHOLDS
    return bins


def cumulate(bins: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the entries that have reached each threshold, shape (1000,)."""
    return np.cumsum(np.bincount(bins, minlength=NUM_THRESHOLDS + 1)[:NUM_THRESHOLDS])
