# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Squares that are resized without creating all of their pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmface.datasets.transforms.scratch import Scratch
from mmface.datasets.transforms.square import cut_square, resize_square


@pytest.mark.parametrize('interpolation', [cv2.INTER_LINEAR, cv2.INTER_AREA])
@pytest.mark.parametrize('seed', range(3))
def test_resize_square__the_very_pixels_of_cutting_and_resizing(interpolation, seed):
    rng = np.random.default_rng(seed)
    scratch = Scratch()
    for _ in range(60):
        height, width = rng.integers(3, 300, 2)
        img = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        size = int(rng.choice([20, 64, 151]))
        side = max(1, int(rng.uniform(0.2, 2.5) * min(height, width)))
        if interpolation == cv2.INTER_AREA:
            side = max(side, 2 * size)  # INTER_AREA is a different algorithm when it enlarges
        left, top = (
            int(rng.integers(min(length - side, 0), max(length - side, 0) + 1))
            for length in (width, height)
        )
        square = cut_square(img, left, top, side, 128, Scratch())
        assert square.shape == (side, side, 3)
        want = cv2.resize(square, (size, size), interpolation=interpolation)
        out = np.zeros((size, size, 3), np.uint8)
        got = resize_square(img, left, top, side, size, 128, interpolation, scratch, out)
        assert np.shares_memory(got, out)
        np.testing.assert_array_equal(got, want)


def test_cut_square__outside_is_filled_whatever_was_in_the_memory():
    scratch = Scratch()
    scratch.take(100, 100, 3)[:] = 77
    img = np.full((4, 6, 3), 9, np.uint8)
    square = cut_square(img, -2, -3, 10, 128, scratch)
    assert (square[3:7, 2:8] == 9).all()
    assert np.unique(square, return_counts=True)[1].tolist() == [4 * 6 * 3, (100 - 24) * 3]
