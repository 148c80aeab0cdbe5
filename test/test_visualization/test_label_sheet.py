# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Contact sheets of training samples."""

from __future__ import annotations

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmface.visualization.label_sheet import (
    BOX_COLOUR,
    FIRST_COLOUR,
    IGNORED_COLOUR,
    MIDDLE_COLOUR,
    SECOND_COLOUR,
    contact_sheet,
    draw_labels,
)


def sample(keypoints):
    found = DetDataSample()
    boxes = np.array([[10.0, 10, 60, 60]])
    found.gt_instances = InstanceData(
        bboxes=boxes, labels=np.zeros(1, int), keypoints=np.array([keypoints], float)
    )
    found.ignored_instances = InstanceData(
        bboxes=boxes + 30, labels=np.zeros(1, int), keypoints=np.ones((1, 3, 3))
    )
    return found


def colours(image):
    return {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}


def test_draw_labels__pairs_have_their_colours_in_the_order_of_the_labels():
    points = [[20, 20, 1], [50, 20, 1], [35, 40, 1]]
    image = np.full((100, 80, 3), 1, np.uint8)
    drawn = draw_labels(image, sample(points), {'flip_indices': (1, 0, 2)}, 200)
    assert drawn.shape == (200, 160, 3)
    assert {BOX_COLOUR, IGNORED_COLOUR} <= colours(drawn)
    for (x, y, _), colour in zip(points, (FIRST_COLOUR, SECOND_COLOUR, MIDDLE_COLOUR), strict=True):
        assert tuple(drawn[2 * y, 2 * x].tolist()) == colour
    assert not (image != 1).any()  # the sample is unchanged


def test_draw_labels__points_that_are_not_there():
    points = [[20, 20, 0], [50, 20, 0], [35, 40, 0]]
    drawn = draw_labels(np.zeros((100, 100, 3), np.uint8), sample(points), {}, 100)
    assert not {FIRST_COLOUR, SECOND_COLOUR, MIDDLE_COLOUR} & colours(drawn)


def test_draw_labels__without_faces():
    empty = DetDataSample(gt_instances=InstanceData(bboxes=np.zeros((0, 4))))
    drawn = draw_labels(np.zeros((50, 100, 3), np.uint8), empty, {}, 200)
    assert drawn.shape == (100, 200, 3)
    assert not drawn.any()


def test_contact_sheet__fills_rows():
    tiles = [np.full((10, 20, 3), value, np.uint8) for value in (1, 2, 3)]
    sheet = contact_sheet(tiles, columns=2, side=20)
    assert sheet.shape == (40, 40, 3)
    assert [sheet[0, 0, 0], sheet[0, 20, 0], sheet[20, 0, 0], sheet[20, 20, 0]] == [1, 2, 3, 64]
