# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterFace's three conventions: worked examples, round trips, invalid options."""

from __future__ import annotations

import math

import pytest
import torch

from mmface.models import CenterFaceCoder

FACE = torch.tensor([[100.0, 120.0, 180.0, 220.0]])
EYE = torch.tensor([[[130.0, 150.0]]])


def random_faces(count: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(count, 2, generator=generator) * 760 + 20
    half = torch.rand(count, 2, generator=generator).pow(3) * 390 + 0.6
    bboxes = torch.cat([centre - half, centre + half], dim=1).clamp(0, 799)
    points = bboxes[:, None, :2] + torch.rand(count, 5, 2, generator=generator) * (
        bboxes[:, None, 2:] - bboxes[:, None, :2]
    )
    return bboxes, points


@pytest.mark.parametrize(
    ('convention', 'anchor'),
    [
        ('centernet', 'cell'),
        ('centernet', 'centre'),
        ('mindspore', 'cell'),
        ('mindspore', 'centre'),
        ('star_clouds', 'cell'),
    ],
)
def test_decode__gives_back_what_was_encoded(convention, anchor):
    coder = CenterFaceCoder(convention, anchor)
    bboxes, points = random_faces()
    faces = coder.encode(bboxes, points)
    found, marks = coder.decode(
        faces.cell, faces.size, faces.offset, faces.keypoints, img_shape=(800, 800)
    )
    assert (found - bboxes).abs().max() < 0.01
    assert (marks - points).abs().max() < 0.01


def test_encode__centernet():
    faces = CenterFaceCoder('centernet').encode(FACE, EYE)
    assert faces.cell.tolist() == [[35, 42]]
    torch.testing.assert_close(faces.size, torch.tensor([[math.log(5), math.log(6.25)]]))
    torch.testing.assert_close(faces.offset, torch.tensor([[0.0, 0.5]]))
    torch.testing.assert_close(faces.keypoints, torch.tensor([[32.5 - 35, 37.5 - 42]]))


def test_encode__mindspore_divides_keypoints_by_the_sides():
    faces = CenterFaceCoder('mindspore').encode(FACE, EYE)
    torch.testing.assert_close(faces.size, torch.tensor([[math.log(5), math.log(6.25)]]))
    torch.testing.assert_close(faces.offset, torch.tensor([[0.0, 0.5]]))
    torch.testing.assert_close(faces.keypoints, torch.tensor([[-2.5 / 20, -4.5 / 25]]))


def test_encode__star_clouds():
    faces = CenterFaceCoder('star_clouds').encode(FACE, EYE)
    assert faces.cell.tolist() == [[35, 42]]
    # Height and y come first; sizes are in input pixels.
    torch.testing.assert_close(faces.size, torch.tensor([[math.log(25), math.log(20)]]))
    torch.testing.assert_close(faces.offset, torch.tensor([[0.0, -0.5]]))
    torch.testing.assert_close(faces.keypoints, torch.tensor([[30 / 100, 30 / 80]]))


def test_encode__sizes_of_the_conventions_differ_by_ln_4():
    theirs = CenterFaceCoder('star_clouds').encode(FACE).size.flip(-1)
    torch.testing.assert_close(
        theirs - CenterFaceCoder('centernet').encode(FACE).size, torch.full((1, 2), math.log(4))
    )


def test_decode__star_clouds():
    found, points = CenterFaceCoder('star_clouds').decode(
        torch.tensor([[10, 20]]),
        torch.tensor([[math.log(6), math.log(5)]]),
        torch.tensor([[0.1, -0.2]]),
        torch.tensor([[0.25, 0.5]]),
        img_shape=(800, 800),
    )
    torch.testing.assert_close(found, torch.tensor([[31.2, 70.4, 51.2, 94.4]]))
    torch.testing.assert_close(points, torch.tensor([[[31.2 + 10, 70.4 + 6]]]))


def test_decode__star_clouds_moves_boxes_inside_then_cuts_them():
    size = torch.tensor([[math.log(6), math.log(5)]])
    found, points = CenterFaceCoder('star_clouds').decode(
        torch.tensor([[0, 0]]),
        size,
        torch.tensor([[0.0, 0.0]]),
        torch.tensor([[0.5, 0.5]]),
        img_shape=(16, 32),
    )
    # 20 wide and 24 high around (2, 2): the corner moves to (0, 0), the size stays.
    assert found.tolist() == [[0.0, 0.0, pytest.approx(20.0), 16.0]]
    torch.testing.assert_close(points, torch.tensor([[[10.0, 12.0]]]))


def test_decode__others_leave_boxes_outside():
    for convention in ('centernet', 'mindspore'):
        found, _ = CenterFaceCoder(convention).decode(
            torch.tensor([[0, 0]]), torch.zeros(1, 2), torch.zeros(1, 2), img_shape=(32, 32)
        )
        assert found.tolist() == [[-8.0, -8.0, 8.0, 8.0]]


def test_decode__centre_anchor_moves_keypoints_by_the_offset():
    values = torch.tensor([[1.0, 1.0]])
    args = (torch.tensor([[5, 6]]), torch.zeros(1, 2), torch.tensor([[0.25, 0.75]]), values)
    _, cell = CenterFaceCoder('centernet').decode(*args)
    _, centre = CenterFaceCoder('centernet', 'centre').decode(*args)
    assert cell.tolist() == [[[24.0, 28.0]]]
    assert centre.tolist() == [[[25.0, 31.0]]]


def test_decode__nothing():
    empty = torch.zeros(0, 2)
    bboxes, points = CenterFaceCoder('star_clouds').decode(
        empty.long(), empty, empty, torch.zeros(0, 10), img_shape=(32, 32)
    )
    assert bboxes.shape == (0, 4)
    assert points.shape == (0, 5, 2)


def test_decode__absurd_sizes_stay_finite():
    for convention in ('centernet', 'star_clouds', 'mindspore'):
        found, points = CenterFaceCoder(convention).decode(
            torch.tensor([[1, 1]]), torch.full((1, 2), 65504.0), torch.zeros(1, 2), torch.ones(1, 2)
        )
        assert torch.isfinite(found).all()
        assert torch.isfinite(points).all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(convention='starclouds'), 'expected one of centernet, star_clouds, mindspore'),
        (dict(keypoint_anchor='center'), 'expected one of cell, centre'),
        (dict(convention='star_clouds', keypoint_anchor='centre'), 'has no meaning'),
    ],
)
def test_init__impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CenterFaceCoder(**options)
