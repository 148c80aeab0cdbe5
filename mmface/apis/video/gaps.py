# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find where faces are in the frames in which the detector missed them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from mmface.apis.video.base import Frame
from mmface.structures import Face


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

    A frame comes back when enough later frames are known, so ``max(max_gap, hold)`` frames wait
    in memory.

    Args:
        max_gap: A face that is missed in at most this number of frames between two sightings is
            put on the straight line between them.
        hold: For this number of frames before its first and after its last sighting, a face stays
            where it was seen.
    """

    def __init__(self, max_gap: int, hold: int) -> None:
        self._max_gap = max_gap
        self._hold = hold
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
        return self._release(self._newest - max(self._max_gap, self._hold))

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
        for track, sightings in list(self._sightings.items()):
            # Only the last sighting before the frame is needed, and all later ones.
            while len(sightings) > 1 and sightings[1].number <= frame.number:
                sightings.popleft()
            before = sightings[0] if sightings[0].number <= frame.number else None
            after = next((each for each in sightings if each.number > frame.number), None)
            face = self._between(before, after, frame)
            if face is not None:
                faces.append(face)
            if before and not after and frame.number - before.number > self._longest:
                del self._sightings[track]
        return faces

    @property
    def _longest(self) -> int:
        return max(self._max_gap, self._hold)

    def _between(
        self, before: _Sighting | None, after: _Sighting | None, frame: Frame
    ) -> Face | None:
        if before and before.number == frame.number:
            return None
        if before and after and after.number - before.number - 1 <= self._max_gap:
            share = (frame.seconds - before.seconds) / (after.seconds - before.seconds)
            bbox = before.face.bbox + share * (after.face.bbox - before.face.bbox)
            return Face(bbox, min(before.face.score, after.face.score))
        if before and frame.number - before.number <= self._hold:
            return Face(before.face.bbox, before.face.score)
        if after and after.number - frame.number <= self._hold:
            return Face(after.face.bbox, after.face.score)
        return None
