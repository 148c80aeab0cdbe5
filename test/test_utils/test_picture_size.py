# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Sizes are those of the pictures that OpenCV gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from mmface.utils.picture_size import ORIENTATION, picture_size


@pytest.mark.parametrize('orientation', [None, *range(1, 9)])
def test_picture_size__as_opencv_turns_it(tmp_path, orientation):
    path = tmp_path / 'a.jpg'
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION] = orientation
    Image.fromarray(np.zeros((30, 70, 3), np.uint8)).save(path, exif=exif)
    height, width = cv2.imread(str(path)).shape[:2]
    assert picture_size(path) == (width, height)
    with path.open('rb') as handle:
        assert picture_size(handle) == (width, height)


def test_picture_size__no_picture(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'<html>')
    with pytest.raises(OSError, match='cannot identify'):
        picture_size(tmp_path / 'a.jpg')
