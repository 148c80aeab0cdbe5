# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterFace's targets, compared with worked examples and a literal face-by-face version."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from helpers import LargestTensor, faces
from mmface.models import CenterFaceCoder, GaussianTargets
from mmface.models.task_modules import gaussian_targets as module
from mmface.models.task_modules.gaussian_targets import gaussian_radius
from mmface.models.task_modules.padded_ground_truth import PaddedGroundTruth, pack_ground_truth


def pack(*images: InstanceData, num_keypoints: int = 5) -> PaddedGroundTruth:
    return pack_ground_truth(images, torch.device('cpu'), num_keypoints)


def one(bboxes: list[list[float]], size: tuple[int, int] = (200, 200), **options):
    gt = pack(faces(bboxes))
    return GaussianTargets(**options)(gt, size, CenterFaceCoder())


def literal_radius(height: float, width: float, overlap: float) -> float:
    """Compute the smallest of CornerNet's three roots, each divided by 2, in double precision."""

    def root(a: float, b: float, c: float) -> float:
        return (b + math.sqrt(b * b - 4 * a * c)) / 2

    both, area = height + width, height * width
    return min(
        root(1, both, area * (1 - overlap) / (1 + overlap)),
        root(4, 2 * both, (1 - overlap) * area),
        root(4 * overlap, -2 * overlap * both, (overlap - 1) * area),
    )


def literal_heatmap(bboxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Draw face by face, as the references do."""
    heatmap = torch.zeros(size)
    for x1, y1, x2, y2 in (bboxes / 4).tolist():
        x1, x2 = (min(max(x, 0), size[1] - 1) for x in (x1, x2))
        y1, y2 = (min(max(y, 0), size[0] - 1) for y in (y1, y2))
        if x2 <= x1 or y2 <= y1:
            continue
        radius = int(literal_radius(math.ceil(y2 - y1), math.ceil(x2 - x1), 0.7))
        column, row = int((x1 + x2) / 2), int((y1 + y2) / 2)
        sigma = (2 * radius + 1) / 6
        for y in range(max(row - radius, 0), min(row + radius, size[0] - 1) + 1):
            for x in range(max(column - radius, 0), min(column + radius, size[1] - 1) + 1):
                distance = (x - column) ** 2 + (y - row) ** 2
                value = math.exp(-distance / (2 * sigma * sigma))
                heatmap[y, x] = max(heatmap[y, x], value)
    return heatmap


@pytest.mark.parametrize(
    ('height', 'width', 'radius'),
    [
        (3, 3, 0),
        (4, 4, 1),
        (5, 4, 1),
        (8, 6, 1),
        (10, 10, 2),
        (20, 16, 4),
        (40, 30, 9),
        (100, 80, 24),
    ],
)
def test_radius__is_that_of_the_reference_table(height, width, radius):
    assert int(gaussian_radius(torch.tensor([float(width), float(height)]))) == radius


def test_radius__equals_the_three_roots_for_every_size_of_a_map():
    # Some of these radii are whole numbers, which float32 could round to the next lower one.
    sides = torch.cartesian_prod(torch.arange(1, 209), torch.arange(1, 209))
    expected = [int(literal_radius(height, width, 0.7)) for width, height in sides.tolist()]
    assert gaussian_radius(sides.float()).int().tolist() == expected


def test_targets__of_one_face():
    targets = one([[100, 120, 180, 220]])
    assert targets.position[0, 0] == 42 * 200 + 35
    assert targets.mask[0].tolist() == [1.0] + [0.0] * 31
    torch.testing.assert_close(targets.size[0, 0], torch.tensor([1.6094379, 1.8325815]))
    torch.testing.assert_close(targets.offset[0, 0], torch.tensor([0.0, 0.5]))
    heat = targets.heatmap[0, 0]
    assert heat[42, 35] == 1
    assert heat[42, 29] == pytest.approx(math.exp(-36 / (2 * (13 / 6) ** 2)))
    assert heat[42, 28] == 0
    assert heat[48, 41] > 0
    assert heat[49, 41] == 0


def test_heatmap__equals_that_of_the_literal_maker():
    generator = torch.Generator().manual_seed(1)
    images = []
    for count in (0, 1, 70):
        corner = torch.rand(count, 2, generator=generator) * 420 - 20
        side = 2 + torch.rand(count, 2, generator=generator).pow(3) * 300
        images.append(torch.cat([corner, corner + side], dim=1))
    gt = pack(*(faces(bboxes) for bboxes in images))
    found = GaussianTargets()(gt, (80, 100), CenterFaceCoder()).heatmap
    for heatmap, bboxes in zip(found, images, strict=True):
        expected = literal_heatmap(bboxes, (80, 100))
        torch.testing.assert_close(heatmap[0], expected)
        assert torch.equal(heatmap[0] == 1, expected == 1)


def test_heatmap__is_the_same_drawn_in_parts(monkeypatch):
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(50, 2, generator=generator) * 300
    gt = pack(faces(torch.cat([corner, corner + 30], dim=1)))
    whole = GaussianTargets()(gt, (80, 80), CenterFaceCoder()).heatmap
    monkeypatch.setattr(module, 'CHUNK_NUMBERS', 80 * 80 * 7)
    parts = GaussianTargets()(gt, (80, 80), CenterFaceCoder()).heatmap
    assert torch.equal(whole, parts)


def test_targets__boxes_are_cut_at_the_last_cell_and_dropped_outside():
    targets = one([[-40, -40, 40, 40], [900, 10, 950, 60], [790, 790, 830, 830], [50, 50, 50, 90]])
    assert targets.mask[0, :4].tolist() == [1.0, 0.0, 1.0, 0.0]
    # The first box is clipped to 40 x 40 around (20, 20); the third to 6 x 6, up to 796.
    torch.testing.assert_close(targets.size[0, 0], torch.full((2,), math.log(40 / 16)))
    assert targets.position[0, 0] == 5 * 200 + 5
    torch.testing.assert_close(targets.size[0, 2], torch.full((2,), math.log(6 / 16)))
    assert int((targets.heatmap == 1).sum()) == 2


def test_targets__without_faces_are_zero_and_finite():
    targets = one([], size=(20, 30))
    assert targets.heatmap.shape == (1, 1, 20, 30)
    assert float(targets.heatmap.sum()) == 0
    assert float(targets.mask.sum()) == float(targets.keypoint_mask.sum()) == 0
    for value in (targets.size, targets.offset, targets.keypoints):
        assert torch.isfinite(value).all()


def test_targets__every_one_of_300_faces_counts():
    # The references draw 32 or 64 faces, with replacement.
    corner = torch.cartesian_prod(torch.arange(15) * 16, torch.arange(20) * 16).float()
    gt = pack(faces(torch.cat([corner, corner + 15], dim=1)))
    targets = GaussianTargets()(gt, (80, 80), CenterFaceCoder())
    assert float(targets.mask.sum()) == 300
    assert int((targets.heatmap == 1).sum()) == 300


def test_targets__two_faces_in_a_cell_share_the_peak_and_both_count():
    targets = one([[100, 100, 140, 140], [92, 92, 148, 148]], size=(50, 50))
    assert targets.position[0, 0] == targets.position[0, 1] == 30 * 50 + 30
    assert targets.mask[0, :2].tolist() == [1.0, 1.0]
    assert int((targets.heatmap == 1).sum()) == 1
    # The larger Gaussian remains around the peak.
    alone = one([[92, 92, 148, 148]], size=(50, 50))
    assert torch.equal(targets.heatmap, alone.heatmap)


def keypoints_of(points: list[list[float]]) -> Tensor:
    return torch.tensor([points], dtype=torch.float32)


def test_keypoints__learned_are_those_labelled_and_inside():
    points = keypoints_of([[20, 30, 1], [25, 30, 0], [-1, 30, 1], [30, 200, 1], [31, 40, 0.5]])
    gt = pack(faces([10, 10, 60, 60], points))
    targets = GaussianTargets()(gt, (50, 50), CenterFaceCoder())
    assert targets.keypoint_mask[0, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    torch.testing.assert_close(targets.keypoints[0, 0, :2], torch.tensor([20 / 4 - 8, 30 / 4 - 8]))


def test_keypoints__missing_ones_may_hold_anything():
    points = torch.full((1, 5, 3), float('nan'))
    points[..., 2] = 0
    gt = pack(faces([10, 10, 60, 60], points))
    targets = GaussianTargets()(gt, (50, 50), CenterFaceCoder())
    assert float(targets.keypoints.abs().sum()) == 0


def test_weights__of_small_faces_are_those_of_mindspore():
    # Areas in cells: 4, 9, 16, 36, 49.
    sides = [8, 12, 16, 24, 28]
    bboxes = [[100 * i, 40, 100 * i + side, 40 + side] for i, side in enumerate(sides)]
    targets = one(bboxes, small_face_weights=True)
    torch.testing.assert_close(
        targets.weight[0, :6], torch.tensor([0.1, 15.0, 10.0, 5.0, 1.0, 0.0])
    )
    assert torch.equal(one(bboxes).weight, one(bboxes).mask)


def test_ignored__cells_inside_have_no_weight_but_centres_do():
    gt = pack(faces([8, 8, 24, 24]))
    ignored = pack(faces([8, 12, 40, 20]), num_keypoints=0)
    targets = GaussianTargets(mask_ignored=True)(gt, (20, 20), CenterFaceCoder(), ignored)
    off = (targets.heat_weight[0, 0] == 0).nonzero().tolist()
    expected = [[row, column] for row in (3, 4) for column in range(2, 10)]
    expected.remove([4, 4])  # the centre of the face to learn
    assert off == expected
    assert GaussianTargets()(gt, (20, 20), CenterFaceCoder(), ignored).heat_weight is None
    with pytest.raises(ValueError, match='mask_ignored=True'):
        GaussianTargets(mask_ignored=True)(gt, (20, 20), CenterFaceCoder())


def test_init__impossible_overlap_is_refused():
    with pytest.raises(ValueError, match='min_overlap must be inside'):
        GaussianTargets(min_overlap=1.0)


def test_targets__1000_faces_at_200x200_need_little_memory():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(1000, 2, generator=generator) * 780
    gt = pack(*(faces(torch.cat([corner, corner + 12], dim=1)) for _ in range(2)))
    with LargestTensor() as largest:
        GaussianTargets(mask_ignored=True)(gt, (200, 200), CenterFaceCoder(), gt)
    # All at once would need 2 * 1024 * 200 * 200 numbers, 330 MB.
    assert 0 < largest.count <= module.CHUNK_NUMBERS
