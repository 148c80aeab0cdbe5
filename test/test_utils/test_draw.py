# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Drawing and hiding faces."""

from __future__ import annotations

import numpy as np
import pytest

from mmface.structures import Face
from mmface.utils.draw import (
    CELLS,
    FACE_COLOUR,
    KEYPOINT_COLOURS,
    MARGIN,
    SHAPES,
    STYLES,
    draw_faces,
    hide_faces,
    mark_faces,
)

POINTS = np.array([[50, 40], [70, 40], [60, 55], [52, 65], [68, 65]], np.float32)


def _face(x1, y1, x2, y2, keypoints=None):
    return Face(np.array([x1, y1, x2, y2], np.float32), 0.9, keypoints)


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)


def test_draw_faces__box_and_present_keypoints():
    grey = np.full((120, 160, 3), 90, np.uint8)
    grey.setflags(write=False)
    points = np.column_stack([POINTS, [1, 1, 1, 1, 0]])[None]
    drawn = draw_faces(grey, np.array([[40, 30, 80, 80]]), np.array([0.9]), points)
    assert tuple(drawn[60, 40]) == FACE_COLOUR
    for k, (x, y) in enumerate([(50, 40), (70, 40), (60, 55), (52, 65)]):
        assert tuple(drawn[y, x]) == KEYPOINT_COLOURS[k]
    assert tuple(drawn[65, 68]) == (90, 90, 90)  # weight 0


def test_draw_faces__boxes_outside_the_image():
    grey = np.full((40, 40, 3), 90, np.uint8)
    boxes = np.array([[-50.0, -50, 500, 500], [100, 100, 90, 90]])
    assert draw_faces(grey, boxes, np.array([0.5, 0.2])).shape == grey.shape
    np.testing.assert_array_equal(draw_faces(grey, np.zeros((0, 4)), np.zeros(0)), grey)


def test_mark_faces__colours_are_bgr():
    grey = np.full((120, 160, 3), 90, np.uint8)
    drawn = mark_faces(grey, [_face(40, 30, 80, 80, POINTS)])
    assert tuple(drawn[60, 40, ::-1]) == FACE_COLOUR
    for colour, (x, y) in zip(KEYPOINT_COLOURS, POINTS.astype(int), strict=True):
        assert tuple(drawn[y, x, ::-1]) == colour
    assert (grey == 90).all()


def test_mark_faces__no_faces_no_keypoints(noise):
    np.testing.assert_array_equal(mark_faces(noise, []), noise)
    assert not np.array_equal(mark_faces(noise, [_face(40, 30, 80, 80)]), noise)


@pytest.mark.parametrize('side', [4, 20, 120])
def test_hide_faces__no_detail_in_the_face_and_its_margin(noise, side):
    x, y, grow = 100, 60, MARGIN * side
    hidden = hide_faces(noise, [_face(x, y, x + side, y + side)])
    left, top = int(x - grow), int(y - grow)
    right, bottom = int(x + side + grow) + 1, int(y + side + grow) + 1
    part = noise[top:bottom, left:right].astype(float)
    blurred = hidden[top:bottom, left:right]
    # Noise of 74 grey levels: the mean of a cell of n pixels keeps 74 / sqrt(n).
    assert blurred.std(axis=(0, 1)).max() < part.std() / 3
    outside = np.ones(noise.shape[:2], bool)
    outside[top:bottom, left:right] = False
    np.testing.assert_array_equal(hidden[outside], noise[outside])


def test_hide_faces__depends_on_the_means_alone():
    """Two faces with the same cell means give the same image."""
    rng = np.random.default_rng(1)
    # 96 px and margins of 24 px: 144 px, cells of 24 px.
    one = rng.integers(0, 256, (200, 200, 3), np.uint8)
    other = one.copy()
    face = _face(48, 48, 143.5, 143.5)
    cells = other[24:168, 24:168].reshape(6, 24, 6, 24, 3).swapaxes(1, 2).reshape(36, 576, 3)
    cells = rng.permuted(cells, axis=1)
    other[24:168, 24:168] = cells.reshape(6, 6, 24, 24, 3).swapaxes(1, 2).reshape(144, 144, 3)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(hide_faces(one, [face]), hide_faces(other, [face]))


def test_hide_faces__at_and_beyond_the_edge(noise):
    faces = [_face(-30, -30, 20, 20), _face(290, 190, 400, 400), _face(500, 500, 600, 600)]
    hidden = hide_faces(noise, [*faces, _face(50, 50, 40, 40)])
    assert hidden.shape == noise.shape
    assert hidden[:20, :20].std() < noise.std() / 3
    np.testing.assert_array_equal(hidden[60:150, 60:250], noise[60:150, 60:250])


@pytest.mark.parametrize('style', STYLES)
@pytest.mark.parametrize('shape', SHAPES)
def test_hide_faces__every_style_covers_the_whole_box(style, shape, noise):
    """Also the corners of the detector's box, with the default margin."""
    hidden = hide_faces(noise, [_face(100, 60, 180, 140)], style, shape)
    before, after = noise[60:141, 100:181], hidden[60:141, 100:181]
    assert (before == after).all(axis=2).mean() < 0.001
    kept = (noise == hidden).all(axis=2)
    assert kept[:35].all() and kept[:, :75].all() and kept[165:].all() and kept[:, 205:].all()
    # Outside of the ellipse, the corners of the covered area are as they were.
    assert kept[42, 82] == (shape == 'ellipse')
    if style == 'solid':
        assert not after.any()


def test_hide_faces__pixelate_leaves_few_colours(noise):
    hidden = hide_faces(noise, [_face(100, 60, 180, 140)], 'pixelate')
    assert len(np.unique(hidden[60:141, 100:181].reshape(-1, 3), axis=0)) <= CELLS**2


@pytest.mark.parametrize('shape', SHAPES)
def test_hide_faces__ellipse_at_the_edge_belongs_to_the_whole_face(shape, noise):
    hidden = hide_faces(noise, [_face(-40, 60, 40, 140)], 'solid', shape)
    assert not hidden[60:141, :40].any()


def test_hide_faces__margin_and_bad_options(noise):
    hidden = hide_faces(noise, [_face(100, 60, 180, 140)], 'solid', margin=0)
    assert (hidden == 0).all(axis=2).sum() == 81 * 81
    with pytest.raises(ValueError, match="style 'fog': expected one of blur"):
        hide_faces(noise, [], 'fog')
    with pytest.raises(ValueError, match="shape 'star': expected one of box"):
        hide_faces(noise, [], shape='star')
