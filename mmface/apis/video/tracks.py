# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Follow faces through the frames of a video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmface.apis.video.assignment import assign
from mmface.structures import Face

# Faces move by less than their size from frame to frame, so a small overlap is enough.
_MIN_IOU = 0.1
# Variances in squared pixels: of the boxes that are found, and of what is added to the place and
# the speed of a face from frame to frame. The values of ByteTrack.
_FOUND, _ADDED = 0.1, 0.01


class FaceTracker:
    """Gives the faces of the same person in consecutive frames the same number.

    The method is ByteTrack (Zhang et al., ECCV 2022) with the settings of the package
    ``trackers``, which gives the same tracks but takes as long to import as 60 frames to process.
    A face with a score of at least ``score_thr`` starts a track or continues one. A face with a
    lower score only continues a track that has no better face in the frame. The numbers depend on
    the boxes and scores alone, so a second run gives the same ones.

    Args:
        max_gap: A track continues after at most this number of frames without its face.
        score_thr: Lowest score of a face that starts a track.
    """

    def __init__(self, max_gap: int, score_thr: float = 0.0) -> None:
        self._max_gap = max_gap
        self._lowest = np.float32(score_thr)
        self._count = 0
        self._numbers: NDArray[np.int64] = np.zeros(0, np.int64)
        self._missed: NDArray[np.int64] = np.zeros(0, np.int64)
        # (T, 4) corners x1, y1, x2, y2 of the tracks, and how they move from frame to frame.
        self._corners: NDArray[np.float64] = np.zeros((0, 4))
        self._speeds: NDArray[np.float64] = np.zeros((0, 4))
        # (T, 3) variance of a corner, covariance with its speed, variance of the speed: a Kalman
        # filter for each coordinate. Those of a track are always the same for all four.
        self._spread: NDArray[np.float64] = np.zeros((0, 3))

    def update(self, faces: Sequence[Face]) -> list[int | None]:
        """Return the track of each face of the next frame, numbers from 0.

        Call it for frames without faces too: they make the tracks older.

        Returns:
            The number of each face, ``None`` for a low score that continues no track.
        """
        boxes = np.array([face.bbox for face in faces], np.float64).reshape(-1, 4)
        high = np.array([face.score for face in faces], np.float32) >= self._lowest
        self._predict()
        numbers: list[int | None] = [None] * len(faces)
        free = np.ones(len(self._numbers), bool)
        for these in (high, ~high):
            tracks, rows = np.flatnonzero(free), np.flatnonzero(these)
            if not (len(tracks) and len(rows)):
                continue
            overlaps = _ious(self._corners[tracks], boxes[rows])
            pairs = [pair for pair in assign(overlaps) if overlaps[pair] >= _MIN_IOU]
            tracks, rows = tracks[[i for i, _ in pairs]], rows[[j for _, j in pairs]]
            self._correct(tracks, boxes[rows])
            for row, number in zip(rows.tolist(), self._numbers[tracks].tolist(), strict=True):
                numbers[row] = number
            free[tracks] = False
        new = [row for row in np.flatnonzero(high).tolist() if numbers[row] is None]
        self._forget()
        for row, number in zip(new, self._start(boxes[new]), strict=True):
            numbers[row] = number
        return numbers

    def _predict(self) -> None:
        """Move the tracks on by a frame."""
        self._missed += 1
        self._corners += self._speeds
        place, both, speed = self._spread.T
        self._spread = np.stack(
            [place + 2 * both + speed + _ADDED, both + speed, speed + _ADDED], axis=1
        )

    def _correct(self, tracks: NDArray[np.intp], boxes: NDArray[np.float64]) -> None:
        """Move tracks (n,) towards the boxes (n, 4) in which their faces were found."""
        place, both, speed = self._spread[tracks].T
        for_place, for_speed = place / (place + _FOUND), both / (place + _FOUND)
        away = boxes - self._corners[tracks]
        self._missed[tracks] = 0
        self._corners[tracks] += for_place[:, None] * away
        self._speeds[tracks] += for_speed[:, None] * away
        self._spread[tracks] = np.stack(
            [(1 - for_place) * place, (1 - for_place) * both, speed - for_speed * both], axis=1
        )

    def _forget(self) -> None:
        """Remove the tracks that have missed too many frames."""
        keep = self._missed <= self._max_gap
        if keep.all():
            return
        self._numbers, self._missed = self._numbers[keep], self._missed[keep]
        self._corners, self._speeds = self._corners[keep], self._speeds[keep]
        self._spread = self._spread[keep]

    def _start(self, boxes: NDArray[np.float64]) -> list[int]:
        """Start a track at each of the boxes (n, 4). Return their numbers."""
        count = len(boxes)
        if not count:
            return []
        numbers = list(range(self._count, self._count + count))
        self._count += count
        self._numbers = np.concatenate([self._numbers, np.array(numbers, np.int64)])
        self._missed = np.concatenate([self._missed, np.zeros(count, np.int64)])
        self._corners = np.concatenate([self._corners, boxes])
        self._speeds = np.concatenate([self._speeds, np.zeros((count, 4))])
        self._spread = np.concatenate([self._spread, np.tile([1.0, 0.0, 1.0], (count, 1))])
        return numbers


def _ious(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the IoU of each of the boxes (M, 4) with each of (N, 4), xyxy: (M, N)."""
    sides = np.minimum(one[:, None, 2:], other[:, 2:]) - np.maximum(one[:, None, :2], other[:, :2])
    inter = np.maximum(sides, 0).prod(axis=2)
    areas = [np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
