# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of following faces against the ByteTrack of the package ``trackers``."""

from __future__ import annotations

import numpy as np
import pytest
import supervision
from trackers import ByteTrackTracker

from mmface.apis.video.tracks import FaceTracker
from mmface.structures import Face


class _Reference:
    """The same tracks from the package ``trackers``, each with a number from its first face on."""

    def __init__(self, max_gap, score_thr):
        self.score_thr = np.float32(score_thr)
        self.tracker = ByteTrackTracker(
            lost_track_buffer=max_gap,
            frame_rate=30.0,  # the buffer is counted in frames at this rate
            track_activation_threshold=score_thr,
            high_conf_det_threshold=score_thr,
            # With 1, a face that is found once and then missed in two frames would be forgotten.
            minimum_consecutive_frames=0,
            minimum_iou_threshold=0.1,
        )
        self.numbers = {}
        self.count = 0

    def update(self, faces):
        scores = np.array([face.score for face in faces], np.float32)
        found = self.tracker.update(
            supervision.Detections(
                xyxy=np.array([face.bbox for face in faces], np.float32).reshape(-1, 4),
                confidence=scores,
                data={'row': np.arange(len(faces))},  # they may come back in another order
            )
        )
        if not faces:
            return []
        rows = dict(zip(found.data['row'], np.asarray(found.tracker_id), strict=True))
        tracks = self.tracker.tracks
        by_name = {track.tracker_id: track for track in tracks}
        # The tracker names a track at its second face only. The tracks of the faces without a name
        # are its last ones, in the order of the rows.
        unnamed = [row for row in sorted(rows) if rows[row] < 0 and scores[row] >= self.score_thr]
        new = dict(zip(unnamed, tracks[len(tracks) - len(unnamed) :], strict=True))
        numbers = []
        for row in range(len(faces)):
            track = new.get(row) or by_name.get(rows[row] if rows[row] >= 0 else None)
            if track is not None and track not in self.numbers:
                self.numbers[track] = self.count
                self.count += 1
            numbers.append(None if track is None else self.numbers[track])
        return numbers


def _crowd(seed, count, frames, size):
    """Return the faces of each frame: they move, change size, flicker and overlap."""
    rng = np.random.default_rng(seed)
    places, speeds = rng.uniform(0, size, (count, 2)), rng.normal(0, 3, (count, 2))
    sides = rng.uniform(15, 60, count)
    found = []
    for _ in range(frames):
        places += speeds + rng.normal(0, 1, (count, 2))
        speeds += rng.normal(0, 0.3, (count, 2))
        sides *= rng.uniform(0.97, 1.03, count)
        there = rng.permutation(count)[: rng.integers(0, count + 1)]
        rows = [(*places[i], *(places[i] + sides[i] * rng.uniform(0.9, 1.1, 2))) for i in there]
        scores = rng.uniform(0, 1, len(there))
        boxes = np.array(rows, np.float32).reshape(-1, 4)
        found.append([Face(box, score) for box, score in zip(boxes, scores.tolist(), strict=True)])
    return found


@pytest.mark.parametrize('max_gap', [0, 1, 5, 25])
@pytest.mark.parametrize('score_thr', [0.0, 0.2, 0.5])
@pytest.mark.parametrize(('count', 'size'), [(1, 100), (6, 300), (30, 600), (40, 200)])
def test_tracker__the_numbers_of_the_package_trackers(max_gap, score_thr, count, size):
    """Alone, side by side, and in crowds in which each face overlaps with many others."""
    ours, theirs = FaceTracker(max_gap, score_thr), _Reference(max_gap, score_thr)
    given = 0
    for number, faces in enumerate(_crowd(count, count, 60, size)):
        expected = theirs.update(faces)
        assert ours.update(faces) == expected, number
        given += sum(each is not None for each in expected)
    assert given > 10
