# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of mmface/apis/detect/crops.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmface.alignment import TEMPLATE
from mmface.apis.detect.crops import CropWriter
from mmface.structures import Face
from mmface.utils.images import read_image

BOX = np.array([10, 10, 90, 100], np.float32)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


def _names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.png'))


def test_crop_writer__boxes(image, tmp_path):
    faces = [Face(BOX, 0.9), Face(BOX + 20, 0.8), Face(BOX + 500, 0.7)]
    assert CropWriter(tmp_path).write(Path('in/a.jpg'), image, faces) == 1  # outside
    assert _names(tmp_path) == ['in/a.jpg.face0.png', 'in/a.jpg.face1.png']
    np.testing.assert_array_equal(read_image(tmp_path / 'in/a.jpg.face0.png'), image[10:100, 10:90])
    # With fewer faces in a second run, the old files are gone.
    assert CropWriter(tmp_path, margin=0.1).write(Path('in/a.jpg'), image, faces[:1]) == 0
    assert _names(tmp_path) == ['in/a.jpg.face0.png']
    assert read_image(tmp_path / 'in/a.jpg.face0.png').shape == (108, 96, 3)


def test_crop_writer__aligned(image, tmp_path):
    points = TEMPLATE * 0.7 + 10
    faces = [Face(BOX, 0.9, points), Face(BOX, 0.8, points[[1, 0, 2, 4, 3]]), Face(BOX, 0.7)]
    assert CropWriter(tmp_path, align=128).write(Path('a.png'), image, faces) == 2
    assert _names(tmp_path) == ['a.png.face0.png']
    expected = faces[0].align(image, 128)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png.face0.png'), expected)
