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
    from trackers import ByteTrackTracker

# Faces move by less than their size from frame to frame, so a small overlap is enough.
_MIN_IOU = 0.1


class FaceTracker:
    """Gives the faces of the same person in consecutive frames the same number (ByteTrack).

    A face with a score of at least ``score_thr`` starts a track or continues one. A face with a
    lower score only continues a track that has no better face in the frame. The numbers depend on
    the boxes and scores alone, so a second run gives the same ones.

    Args:
        max_gap: A track continues after at most this number of frames without its face.
        score_thr: Lowest score of a face that starts a track.
    """

    def __init__(self, max_gap: int, score_thr: float = 0.0) -> None:
        self._lowest = np.float32(score_thr)
        self._tracker = ByteTrackTracker(
            lost_track_buffer=max_gap,
            frame_rate=30.0,  # the buffer is counted in frames at this rate
            track_activation_threshold=score_thr,
            high_conf_det_threshold=score_thr,
            # With 1, a face that is found once and then missed in two frames would be forgotten.
            minimum_consecutive_frames=0,
            minimum_iou_threshold=_MIN_IOU,
        )
        self._numbers: dict[Any, int] = {}
        self._count = 0

    def update(self, faces: Sequence[Face]) -> list[int | None]:
        """Return the track of each face of the next frame, numbers from 0.

        Call it for frames without faces too: they make the tracks older.

        Returns:
            The number of each face, ``None`` for a low score that continues no track.
        """
        scores = np.array([face.score for face in faces], np.float32)
        found = self._tracker.update(
            supervision.Detections(
                xyxy=np.array([face.bbox for face in faces], np.float32).reshape(-1, 4),
                confidence=scores,
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
        unnamed = [row for row in sorted(rows) if rows[row] < 0 and scores[row] >= self._lowest]
        new = dict(zip(unnamed, tracks[len(tracks) - len(unnamed) :], strict=True))
        numbers: list[int | None] = []
        for row in range(len(faces)):
            if row not in new and rows[row] < 0:
                numbers.append(None)
                continue
            track = new[row] if row in new else by_name[rows[row]]
            if track not in self._numbers:
                self._numbers[track] = self._count
                self._count += 1
            numbers.append(self._numbers[track])
        self._numbers = {track: self._numbers[track] for track in tracks}
        return numbers
