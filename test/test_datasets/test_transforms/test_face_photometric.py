# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The colour change equals a float version that performs one step after the other."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import pytest

from mmface.datasets.transforms import FacePhotometric
from mmface.datasets.transforms.face_photometric import PhotometricChange

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
CHANGES = {
    'brightness': PhotometricChange(brightness=-31.5),
    'contrast': PhotometricChange(contrast=1.5),
    'both': PhotometricChange(brightness=31.5, contrast=0.5),
    'saturation': PhotometricChange(saturation=1.5),
    'less saturation': PhotometricChange(saturation=0.5),
    'hue': PhotometricChange(hue=17.5),
    'hue back': PhotometricChange(hue=-17.5),
    'channels': PhotometricChange(channels=(2, 0, 1)),
    'all': PhotometricChange(25, 1.4, 1.4, -12, (1, 2, 0)),
    'all down': PhotometricChange(-25, 0.6, 0.6, 12, (1, 0, 2)),
}


def step_by_step(img, change: PhotometricChange, contrast_last: bool) -> np.ndarray:
    """Distort floats in the order of mmdet 2.7, without clipping between the steps."""
    img = img.astype(np.float32) + np.float32(change.brightness)
    if not contrast_last:
        img *= change.contrast
    hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV)
    hsv[..., 1] *= change.saturation
    hsv[..., 0] += change.hue
    hsv[..., 0][hsv[..., 0] > 360] -= 360
    hsv[..., 0][hsv[..., 0] < 0] += 360
    img = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if contrast_last:
        img *= change.contrast
    return img[..., list(change.channels)]


@pytest.mark.parametrize('contrast_last', [True, False])
@pytest.mark.parametrize('name', CHANGES)
def test_apply__equals_the_float_steps_clipped_at_the_end(name, contrast_last):
    change = CHANGES[name]
    floats = step_by_step(IMAGE, change, contrast_last)
    # HSV is not defined where brightness leaves no channel above 0.
    valid = IMAGE.max(-1) > -change.brightness
    assert valid.mean() > 0.99
    got = FacePhotometric.apply(IMAGE, change)
    assert got.dtype == np.uint8
    difference = np.abs(got - np.clip(floats, 0, 255))[valid]
    # Half a grey level for rounding, and the error of single precision.
    assert difference.max() < 0.51


def test_apply__saturation_is_not_clipped():
    """A saturated pixel gets more saturated: its weaker channels fall below 0 before clipping."""
    pixel = np.array([[[20, 40, 200]]], np.uint8)
    got = FacePhotometric.apply(pixel, PhotometricChange(saturation=1.5, brightness=50))
    # V = 250; 250 - 1.5 * (250 - 70) = -20 and 250 - 1.5 * (250 - 90) = 10.
    assert got[0, 0].tolist() == [0, 10, 250]


def test_apply__hue_turns_by_degrees():
    blue, green, red = 40, 90, 200
    got = FacePhotometric.apply(
        np.array([[[blue, green, red]]], np.uint8), PhotometricChange(hue=15)
    )
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    want = np.array(colorsys.hsv_to_rgb(hue + 15 / 360, saturation, value)) * 255
    np.testing.assert_allclose(got[0, 0, ::-1], want, atol=0.51)


def test_apply__nothing_to_do_changes_nothing():
    np.testing.assert_array_equal(FacePhotometric.apply(IMAGE, PhotometricChange()), IMAGE)


def test_apply__leaves_its_input():
    before = IMAGE.copy()
    for change in CHANGES.values():
        FacePhotometric.apply(IMAGE, change)
    np.testing.assert_array_equal(IMAGE, before)


def test_draw__each_part_in_half_of_the_images_within_its_range():
    np.random.seed(0)
    draws = [FacePhotometric().draw() for _ in range(4000)]
    ranges = dict(brightness=(-32, 32), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-18, 18))
    for name, (low, high) in ranges.items():
        nothing = PhotometricChange._field_defaults[name]
        values = np.array([getattr(draw, name) for draw in draws])
        changed = values[values != nothing]
        assert 0.46 < len(changed) / len(draws) < 0.54
        assert low <= changed.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < changed.max() <= high
    # In a sixth of the cases, a random order of three channels is the old order.
    assert 0.38 < np.mean([draw.channels != (0, 1, 2) for draw in draws]) < 0.46


def test_transform__a_image_that_is_a_view():
    img = np.random.default_rng(1).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    for seed in range(20):
        np.random.seed(seed)
        view = FacePhotometric()(dict(img=img[5:69, 7:71]))['img']
        np.random.seed(seed)
        copy = FacePhotometric()(dict(img=img[5:69, 7:71].copy()))['img']
        np.testing.assert_array_equal(view, copy)
