# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Follow faces through the frames of a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmface.structures import Face
from mmface.utils.extras import optional_imports

with optional_imports():
    import supervision
    from trackers import SORTTracker

# Faces move by less than their size from frame to frame, so a small overlap is enough.
_MIN_IOU = 0.1


class FaceTracker:
    """Gives the faces of the same person in consecutive frames the same number (SORT).

    Every face starts a track or continues one, whatever its score: the threshold was applied by
    the detector. The numbers depend on the boxes alone, so a second run gives the same ones.

    Args:
        max_gap: A track continues after at most this number of frames without its face.
    """

    def __init__(self, max_gap: int) -> None:
        self._tracker = SORTTracker(
            lost_track_buffer=max_gap,
            frame_rate=30.0,  # the buffer is counted in frames at this rate
            track_activation_threshold=0.0,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=_MIN_IOU,
        )
        self._numbers: dict[Any, int] = {}
        self._count = 0

    def update(self, faces: Sequence[Face]) -> list[int]:
        """Return the track of each face of the next frame, numbers from 0.

        Call it for frames without faces too: they make the tracks older.
        """
        found = self._tracker.update(
            supervision.Detections(
                xyxy=np.array([face.bbox for face in faces], np.float32).reshape(-1, 4),
                confidence=np.array([face.score for face in faces], np.float32),
                # The rows may come back in another order.
                data={'row': np.arange(len(faces))},
            )
        )
        if not faces:
            return []
        rows = dict(zip(found.data['row'], np.asarray(found.tracker_id), strict=True))
        tracks = self._tracker.tracks
        by_name = {track.tracker_id: track for track in tracks}
        # The tracker names a track at its second face only. The tracks of the faces without a name
        # are its last ones, in the order of the rows.
        unnamed = [row for row in sorted(rows) if rows[row] < 0]
        new = dict(zip(unnamed, tracks[len(tracks) - len(unnamed) :], strict=True))
        numbers = []
        for row in range(len(faces)):
            track = new[row] if row in new else by_name[rows[row]]
            if track not in self._numbers:
                self._numbers[track] = self._count
                self._count += 1
            numbers.append(self._numbers[track])
        self._numbers = {track: self._numbers[track] for track in tracks}
        return numbers
