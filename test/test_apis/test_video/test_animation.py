# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of mmface/apis/video/animation.py."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from mmface.apis.video.animation import AnimationReader

DURATIONS = (100, 300, 50)


@pytest.fixture(params=['gif', 'png', 'webp', 'avif'])
def animation(request, tmp_path):
    """Write an animation: the left half is black, the right half has another grey per frame."""
    frames = []
    for number in range(3):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:, 32:] = 60 + 60 * number
        frames.append(PIL.Image.fromarray(pixels))
    path = tmp_path / f'animation.{request.param}'
    duration = 100 if request.param == 'avif' else list(DURATIONS)
    exact = {'webp': {'lossless': True}, 'avif': {'quality': 100}}.get(request.param, {})
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=duration, **exact)
    return path


def test_animation_reader__all_frames_with_their_times(animation):
    reader = AnimationReader(animation)
    assert (reader.live, reader.size, reader.total) == (False, (64, 48), 3)
    frames = list(reader)
    reader.close()
    assert [frame.number for frame in frames] == [0, 1, 2]
    lasting = (100, 100, 100) if animation.suffix == '.avif' else DURATIONS
    starts = np.cumsum([0, *lasting[:2]]) / 1000
    np.testing.assert_allclose([frame.seconds for frame in frames], starts, atol=1e-3)
    assert reader.fps == pytest.approx(3000 / sum(lasting), rel=1e-3)
    for number, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3)
        assert np.abs(frame.image[:, :30].astype(int)).max() <= 3
        assert np.abs(frame.image[:, 34:].astype(int) - (60 + 60 * number)).max() <= 3


def test_animation_reader__fallback_image_of_apng_is_not_a_frame(tmp_path):
    frames = [PIL.Image.new('RGB', (8, 6), (value, 0, 0)) for value in (10, 20, 30)]
    path = tmp_path / 'a.png'
    frames[0].save(path, save_all=True, append_images=frames[1:], default_image=True, duration=100)
    assert [frame.image[0, 0, 2] for frame in AnimationReader(path)] == [20, 30]


def test_animation_reader__frames_without_a_duration_last_as_in_browsers(tmp_path):
    frames = [PIL.Image.new('RGB', (8, 6), (value, 0, 0)) for value in (10, 200)]
    frames[0].save(tmp_path / 'a.gif', save_all=True, append_images=frames[1:], duration=0)
    assert [frame.seconds for frame in AnimationReader(tmp_path / 'a.gif')] == [0, 0.1]


def test_animation_reader__not_an_image(tmp_path):
    (tmp_path / 'a.gif').write_text('text')
    with pytest.raises(OSError, match=r'a\.gif'):
        AnimationReader(tmp_path / 'a.gif')
