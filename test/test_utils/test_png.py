# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""PNG files with a wrong length are refused before anything is decoded."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmface.utils.png import check_png


@pytest.fixture
def png() -> np.ndarray:
    pixels = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    return cv2.imencode('.png', pixels)[1].ravel()


def test_check_png__what_can_be_decoded_passes(png):
    for data in (
        png,
        png[:-12],
        png[:8],
        png[:0],
        cv2.imencode('.jpg', np.ones((9, 9)))[1].ravel(),
    ):
        check_png(data.tobytes())


def test_check_png__parts_longer_than_the_file(png):
    at = png.tobytes().index(b'IDAT') - 4
    for length in (len(png), 1 << 20):
        data = png.copy()
        data[at : at + 4] = np.frombuffer(length.to_bytes(4, 'big'), np.uint8)
        with pytest.raises(ValueError, match=f' {length} bytes'):
            check_png(data.tobytes())
    with pytest.raises(ValueError, match='after the end'):
        check_png(png[: len(png) // 2].tobytes())
