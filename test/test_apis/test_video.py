# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of reading and writing videos."""

from __future__ import annotations

import numpy as np
import pytest

from mmface.apis.video import Frame, VideoReader, open_video


def _write(path, seconds, size=(64, 48)):
    """Write frames of increasing brightness, one at each of ``seconds``."""
    with open_video(path, 10, size) as video:
        for number, when in enumerate(seconds):
            image = np.full((size[1], size[0], 3), min(20 * number, 255), np.uint8)
            video.write(Frame(number, when, image))
    return path


def test_video__round_trip(tmp_path):
    reader = VideoReader(_write(tmp_path / 'new' / 'a.mp4', np.arange(10) / 10))
    assert (reader.fps, reader.size, reader.total, reader.live) == (10, (64, 48), 10, False)
    frames = list(reader)
    assert [frame.number for frame in frames] == list(range(10))
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(10) / 10)
    means = [frame.image.mean() for frame in frames]
    np.testing.assert_allclose(means, 20 * np.arange(10), atol=4)
    assert [p.name for p in tmp_path.joinpath('new').iterdir()] == ['a.mp4']


def test_video__keeps_the_pace_of_the_clock(tmp_path):
    """A camera delivers an image every 0.3 s, then two at once."""
    reader = VideoReader(_write(tmp_path / 'a.mp4', [0, 0.3, 0.6, 0.61, 0.9]))
    means = [round(frame.image.mean() / 20) for frame in reader]
    assert means == [0, 1, 1, 1, 2, 2, 2, 4, 4, 4]


def test_video__frames_of_another_size_are_resized(tmp_path):
    path = tmp_path / 'a.mp4'
    with open_video(path, 10, (64, 48)) as video:
        video.write(Frame(0, 0.0, np.zeros((96, 128, 3), np.uint8)))
    assert VideoReader(path).total == 1


def test_video__nothing_is_left_of_a_failure(tmp_path):
    path = tmp_path / 'a.mp4'
    with pytest.raises(KeyboardInterrupt), open_video(path, 10, (64, 48)) as video:
        video.write(Frame(0, 0.0, np.zeros((48, 64, 3), np.uint8)))
        raise KeyboardInterrupt
    with pytest.raises(OSError, match='cannot be written as a video'), open_video(path, 10, (0, 0)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_video__not_a_video(tmp_path):
    path = tmp_path / 'a.mp4'
    path.write_text('text')
    with pytest.raises(ValueError, match='cannot be opened: it is not a video'):
        VideoReader(path)
    with pytest.raises(ValueError, match='camera 97 cannot be opened'):
        VideoReader(97)
