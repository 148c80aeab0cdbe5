# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find where faces are in the frames in which the detector missed them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mmface.apis.video.base import Frame
from mmface.structures import Face

#: Number of sightings from which the speed of a face is measured.
_HISTORY = 5
#: By this share of its sides, a face that is no longer seen grows on each side in each frame.
_GROWTH = 0.05


class SeenFrame(NamedTuple):
    """A frame with the faces found in it.

    Attributes:
        frame: The frame.
        faces: Its faces.
        tracks: The track of each face.
    """

    frame: Frame
    faces: Sequence[Face]
    tracks: Sequence[int]


class _Sighting(NamedTuple):
    number: int
    seconds: float
    face: Face


class GapFiller:
    """Adds the faces that were missed between two sightings, and before and after them.

    A frame comes back when enough later frames are known, so at most ``delay`` frames wait in
    memory.

    Args:
        max_gap: A face that is missed in at most this number of frames between two sightings is
            put on the straight line between them.
        hold: For this number of frames before its first and after its last sighting, a face moves
            on as it did, and grows.
        score_thr: A sighting with a lower score may be beside the face. So the places that follow
            from the better sightings alone are added too.

    Attributes:
        delay: Number of later frames that a frame waits for.
    """

    def __init__(self, max_gap: int, hold: int, score_thr: float = 0.0) -> None:
        self._max_gap = max_gap
        self._hold = hold
        self._score_thr = score_thr
        # Before a first sighting, the speed comes from the sightings after it.
        self.delay = max(max_gap, hold + _HISTORY - 1 if hold else 0)
        self._waiting: deque[SeenFrame] = deque()
        self._sightings: dict[int, deque[_Sighting]] = {}
        self._newest = -1

    def push(self, seen: SeenFrame) -> list[tuple[SeenFrame, list[Face]]]:
        """Take the next frame.

        Args:
            seen: The frame. Frames are counted from 0.

        Returns:
            The frames that are complete, each with the faces that were missed in it.
        """
        self._waiting.append(seen)
        self._newest = seen.frame.number
        for face, track in zip(seen.faces, seen.tracks, strict=True):
            place = _Sighting(seen.frame.number, seen.frame.seconds, face)
            self._sightings.setdefault(track, deque()).append(place)
        return self._release(self._newest - self.delay)

    def finish(self) -> list[tuple[SeenFrame, list[Face]]]:
        """Return the frames that still wait. There are no later ones."""
        return self._release(self._newest)

    def _release(self, last: int) -> list[tuple[SeenFrame, list[Face]]]:
        ready = []
        while self._waiting and self._waiting[0].frame.number <= last:
            seen = self._waiting.popleft()
            ready.append((seen, self._missed(seen.frame)))
        return ready

    def _missed(self, frame: Frame) -> list[Face]:
        faces = []
        oldest = frame.number - self.delay
        for track, sightings in list(self._sightings.items()):
            better = [each for each in sightings if each.face.score >= self._score_thr]
            place = self._between(sightings, frame)
            other = self._between(better, frame) if len(better) < len(sightings) else None
            if place is not None:
                faces.append(place)
            if other is not None and (place is None or (other.bbox != place.bbox).any()):
                faces.append(other)
            while (
                sightings[0].number < oldest
                and len(sightings) > _HISTORY
                and sightings[_HISTORY].number <= frame.number
            ):
                sightings.popleft()
            if sightings[-1].number < oldest:
                del self._sightings[track]
        return faces

    def _between(self, sightings: Iterable[_Sighting], frame: Frame) -> Face | None:
        before = [each for each in sightings if each.number <= frame.number]
        after = [each for each in sightings if each.number > frame.number]
        last, first = before[-1] if before else None, after[0] if after else None
        if last and last.number == frame.number:
            return None
        if last and first and first.number - last.number - 1 <= self._max_gap:
            share = (frame.seconds - last.seconds) / (first.seconds - last.seconds)
            bbox = last.face.bbox + share * (first.face.bbox - last.face.bbox)
            return Face(bbox, min(last.face.score, first.face.score))
        if last and frame.number - last.number <= self._hold:
            return _moved_on(last, before[-_HISTORY:][0], frame)
        if first and first.number - frame.number <= self._hold:
            return _moved_on(first, after[:_HISTORY][-1], frame)
        return None


def _moved_on(nearest: _Sighting, other: _Sighting, frame: Frame) -> Face:
    """Return where a face is if its centre moves on as it did between two sightings."""
    corner, opposite = nearest.face.bbox[:2], nearest.face.bbox[2:]
    moved: np.ndarray = np.zeros(2, np.float32)
    if other.number != nearest.number:
        way = (corner + opposite - other.face.bbox[:2] - other.face.bbox[2:]) / 2
        moved = way * (frame.seconds - nearest.seconds) / (nearest.seconds - other.seconds)
    # The further away in time, the less is known.
    grow = _GROWTH * abs(frame.number - nearest.number) * (opposite - corner)
    bbox = np.concatenate([corner + moved - grow, opposite + moved + grow])
    return Face(bbox.astype(np.float32), nearest.face.score)
