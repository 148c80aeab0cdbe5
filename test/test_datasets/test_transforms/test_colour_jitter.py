# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The colour change equals a float version that performs one step after the other."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from mmface.datasets.transforms import ColourJitter
from mmface.datasets.transforms.colour_jitter import STEPS, ColourChange

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)


def step_by_step(img, change: ColourChange) -> np.ndarray:
    """Blend floats with black, the mean grey and the grey, as CenterNet's image.py does."""
    img = img.astype(np.float32) / 255
    grey = cv2.cvtColor(img, cv2.COLOR_BGR2GRAY)[..., None]
    others = dict(brightness=0.0, contrast=grey.mean(), saturation=grey)
    for step in change.order:
        factor = getattr(change, step)
        img = factor * img + (1 - factor) * others[step]
    return 255 * img + np.array(change.lighting)


@pytest.mark.parametrize('order', list(itertools.permutations(STEPS)))
@pytest.mark.parametrize('factors', [(1.4, 0.6, 1.4), (0.6, 1.4, 0.6), (1.4, 1.4, 1.4), (1, 1, 1)])
def test_apply__equals_the_float_steps_clipped_at_the_end(order, factors):
    change = ColourChange(*factors, order, (7.5, -6.25, 3.0))
    floats = step_by_step(IMAGE, change)
    got = ColourJitter.apply(IMAGE, change)
    assert got.dtype == np.uint8
    difference = np.abs(got - np.clip(floats, 0, 255))
    # Half a grey level for rounding, and less than half for OpenCV's fixed-point weights.
    assert difference.max() < 1
    assert difference.mean() < 0.3


def test_apply__the_order_matters():
    results = [
        ColourJitter.apply(IMAGE, ColourChange(1.4, 0.6, 1.0, order)).astype(int)
        for order in (('brightness', 'contrast', 'saturation'), STEPS[::-1])
    ]
    assert np.abs(results[0] - results[1]).mean() > 5


def test_apply__nothing_to_do_changes_nothing():
    np.testing.assert_array_equal(ColourJitter.apply(IMAGE, ColourChange()), IMAGE)


def test_apply__grey_images_stay_grey_without_lighting():
    grey = np.repeat(IMAGE[..., :1], 3, axis=2)
    got = ColourJitter.apply(grey, ColourChange(1.2, 0.8, 1.4)).astype(int)
    assert np.ptp(got, axis=2).max() <= 1


def test_apply__leaves_its_input():
    before = IMAGE.copy()
    ColourJitter.apply(IMAGE, ColourChange(1.4, 0.6, 1.4))
    np.testing.assert_array_equal(IMAGE, before)


def test_draw__factors_orders_and_lighting():
    np.random.seed(0)
    draws = [ColourJitter().draw() for _ in range(6000)]
    for name in STEPS:
        values = np.array([getattr(draw, name) for draw in draws])
        assert 0.6 <= values.min() < 0.61
        assert 1.39 < values.max() <= 1.4
        assert abs(values.mean() - 1) < 0.02
    orders = [draw.order for draw in draws]
    for order in itertools.permutations(STEPS):
        assert orders.count(order) == pytest.approx(1000, rel=0.12)
    lighting = np.array([draw.lighting for draw in draws])
    assert np.abs(lighting.mean(axis=0)).max() < 0.2
    # The largest component moves all channels together: 0.1 * 0.2142 * 255 times its vector.
    expected = 0.1 * 0.2141788 * 255 * np.array([0.58752847, 0.5832747, 0.56089297])
    np.testing.assert_allclose(lighting.std(axis=0), expected, rtol=0.05)
    assert np.corrcoef(lighting.T).min() > 0.95


def test_transform__every_image_gets_its_own_factors():
    np.random.seed(0)
    jitter = ColourJitter()
    means = [jitter(dict(img=IMAGE))['img'].mean() for _ in range(20)]
    assert len(set(means)) == 20


def test_transform__off():
    jitter = ColourJitter(strength=0, lighting_std=0)
    np.testing.assert_array_equal(jitter(dict(img=IMAGE))['img'], IMAGE)
