# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of following faces and of hiding them where they were missed."""

from __future__ import annotations

import numpy as np
import pytest

from mmface.apis.video.base import Frame
from mmface.apis.video.gaps import GapFiller, SeenFrame
from mmface.apis.video.tracks import FaceTracker
from mmface.structures import Face

IMAGE = np.zeros((4, 4, 3), np.uint8)


def _face(x, y=50, side=20, score=0.3):
    return Face(np.array([x, y, x + side, y + side], np.float32), score)


def _follow(found, max_gap=3, hold=2, times=None):
    """Push the faces of each frame. Return the missed faces and the tracks."""
    tracker, filler = FaceTracker(max_gap), GapFiller(max_gap, hold)
    done, tracks = [], []
    for number, faces in enumerate(found):
        tracks.append(tracker.update(faces))
        seconds = number / 10 if times is None else times[number]
        done += filler.push(SeenFrame(Frame(number, seconds, IMAGE), faces, tracks[-1]))
        waiting = number + 1 - len(done)
        assert waiting <= filler.delay <= max(max_gap, hold + 4)
    done += filler.finish()
    assert [seen.frame.number for seen, _ in done] == list(range(len(found)))
    return [missed for _, missed in done], tracks


def test_tracker__crossing_faces_keep_their_numbers_from_the_first_sighting():
    left = [_face(20 + 5 * n, 40) for n in range(30)]
    right = [_face(165 - 5 * n, 60, score=0.9) for n in range(30)]
    found = [[a, b] if n % 2 else [b, a] for n, (a, b) in enumerate(zip(left, right, strict=True))]
    tracker = FaceTracker(5)
    for n, faces in enumerate(found):
        assert tracker.update(faces) == ([1, 0] if n % 2 else [0, 1])


def test_tracker__goes_on_after_a_gap_and_ends_after_a_longer_one():
    tracker = FaceTracker(3)
    seen = [True, True, False, False, False, True, False, False, False, False, True]
    numbers = [tracker.update([_face(20 + n)] if there else []) for n, there in enumerate(seen)]
    assert [n for n in numbers if n] == [[0], [0], [0], [1]]


def test_tracker__first_sighting_alone_is_enough():
    """Flicker: a face that is found in every third frame, never twice in a row."""
    tracker = FaceTracker(2)
    numbers = [tracker.update([] if n % 3 else [_face(20 + n)]) for n in range(10)]
    assert [n for n in numbers if n] == [[0]] * 4


def test_tracker__low_scores_and_many_faces():
    """Every face has a number, whatever its score; a second run gives the same numbers."""
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 900, (40, 2))
    speed = rng.uniform(-3, 3, (40, 2))
    found = []
    for n in range(20):
        rows = rng.permutation(40)[: rng.integers(20, 41)]
        found.append([_face(*(starts[i] + n * speed[i]), score=rng.uniform(0, 1)) for i in rows])
    one, two = FaceTracker(4), FaceTracker(4)
    numbers = [one.update(faces) for faces in found]
    assert numbers == [two.update(faces) for faces in found]
    for faces, row in zip(found, numbers, strict=True):
        assert len(set(row)) == len(faces)
        assert min(row) >= 0


def test_tracker__a_low_score_continues_a_track_and_never_starts_one():
    tracker = FaceTracker(3, score_thr=0.2)
    weak = _face(200, score=0.19)
    for n in range(5):
        assert tracker.update([weak]) == [None], n
    assert tracker.update([weak, _face(20, score=0.2)]) == [None, 0]
    # Far more frames than a gap may have, and in between the weak face comes first or last.
    for n in range(1, 40):
        faces = [_face(20 + 2 * n, score=0.06), weak][:: 1 if n % 2 else -1]
        assert tracker.update(faces) == [0, None][:: 1 if n % 2 else -1], n
    # The better face wins, although the weak one lies where the track goes.
    assert tracker.update([_face(100, score=0.19), _face(104, score=0.5)]) == [None, 0]


def test_tracker__a_low_score_does_not_outlive_its_track():
    tracker = FaceTracker(3, score_thr=0.2)
    assert tracker.update([_face(20, score=0.9)]) == [0]
    for _ in range(5):
        tracker.update([])
    assert tracker.update([_face(20, score=0.1)]) == [None]
    assert tracker.update([_face(20, score=0.9)]) == [1]


def test_gaps__a_missed_face_is_on_the_line_between_its_sightings():
    found = [[_face(20 + 3 * n)] for n in range(10)]
    for n in (4, 5, 6):
        found[n] = []
    missed, _ = _follow(found)
    assert [len(faces) for faces in missed] == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    for n in (4, 5, 6):
        np.testing.assert_allclose(missed[n][0].bbox, [20 + 3 * n, 50, 40 + 3 * n, 70])


def test_gaps__the_line_follows_the_clock():
    found = [[_face(20)], [], [_face(29)]]
    missed, _ = _follow(found, times=[0, 0.1, 1.0])
    assert missed[1][0].bbox[0] == pytest.approx(20.9)


def test_gaps__a_face_moves_on_and_grows_before_and_after():
    found = [[_face(100 + 3 * n)] if 4 <= n < 8 else [] for n in range(14)]
    missed, _ = _follow(found, max_gap=0, hold=3)
    assert [len(faces) for faces in missed] == [0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    for n in (1, 2, 3, 8, 9, 10):
        grown = missed[n][0].bbox
        away = max(4 - n, n - 7)
        x1 = 100 + 3 * n - away
        np.testing.assert_allclose(grown, [x1, 50 - away, x1 + 20 + 2 * away, 70 + away], rtol=1e-5)


def test_gaps__a_weak_sighting_beside_the_face_does_not_uncover_it():
    found = [[_face(20 + 3 * n)] for n in range(10)]
    found[5] = [_face(45, score=0.1)]
    tracker, filler = FaceTracker(3, 0.2), GapFiller(3, 2, 0.2)
    done = []
    for n, faces in enumerate(found):
        done += filler.push(SeenFrame(Frame(n, n / 10, IMAGE), faces, tracker.update(faces)))
    missed = [faces for _, faces in [*done, *filler.finish()]]
    assert [len(faces) for faces in missed] == [n == 5 for n in range(10)]
    np.testing.assert_allclose(missed[5][0].bbox, [35, 50, 55, 70])


def test_gaps__a_long_track_does_not_grow_in_memory():
    tracker, filler = FaceTracker(3, 0.2), GapFiller(3, 2, 0.2)
    for n in range(200):
        faces = [_face(20 + n, score=0.9 if n < 3 else 0.1)]
        filler.push(SeenFrame(Frame(n, n / 10, IMAGE), faces, tracker.update(faces)))
        assert len(filler._sightings[0]) <= 2 * filler.delay + 2


def test_gaps__too_long_a_gap_is_not_closed():
    found = [[_face(20)], [], [], [], [], [_face(20)]]
    missed, _ = _follow(found, max_gap=3, hold=1)
    assert [len(faces) for faces in missed] == [0, 1, 0, 0, 1, 0]


def test_gaps__nothing_to_add():
    found = [[_face(20), _face(90)] for _ in range(8)]
    missed, _ = _follow(found)
    assert missed == [[]] * 8
    assert _follow([[]] * 8)[0] == [[]] * 8
    found[3] = []
    assert _follow(found, max_gap=0, hold=0)[0] == [[]] * 8
