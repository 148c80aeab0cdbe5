# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The batched assigner, compared with golden values and a literal per-image assigner."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.assigners import ATSSAssigner
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

from mmface.models import BatchedATSSAssigner
from mmface.models.task_modules import batched_atss_assigner as module
from mmface.models.task_modules import nearest_priors
from mmface.models.task_modules.nearest_priors import PriorGrid
from mmface.models.task_modules.padded_ground_truth import PaddedGroundTruth


def scrfd_priors(size: int = 640) -> tuple[Tensor, list[PriorGrid]]:
    generator = TASK_UTILS.build(
        dict(
            type='AnchorGenerator',
            ratios=[1.0],
            scales=[1, 2],
            base_sizes=[16, 64, 256],
            strides=[8, 16, 32],
        )
    )
    sizes = [(size // stride, size // stride) for stride in (8, 16, 32)]
    levels = generator.grid_priors(sizes, device='cpu')
    grids = [
        PriorGrid(*size, 2, stride) for size, stride in zip(sizes, generator.strides, strict=True)
    ]
    return torch.cat(levels), grids


def pad(gts: list[Tensor], size: int) -> tuple[Tensor, Tensor]:
    bboxes = torch.zeros(len(gts), size, 4)
    mask = torch.zeros(len(gts), size, dtype=torch.bool)
    for row, gt in enumerate(gts):
        bboxes[row, : len(gt)] = gt
        mask[row, : len(gt)] = True
    return bboxes, mask


def random_faces(generator: torch.Generator, count: int) -> Tensor:
    corner = torch.rand(count, 2, generator=generator) * 600
    side = 4 + torch.rand(count, 2, generator=generator).pow(3) * 250
    return torch.cat([corner, corner + side], dim=1)


def assign_one(priors: Tensor, candidates: Tensor, gts: Tensor, inside_mode: int) -> list[int]:
    """Assign one image face by face, literally as in the paper and reference."""
    owner = [0] * len(priors)
    owner_iou = [-1.0] * len(priors)
    for number, (gt, indices) in enumerate(zip(gts, candidates, strict=True), start=1):
        boxes = priors[indices].double()
        gt = gt.double()
        overlap_wh = torch.minimum(boxes[:, 2:], gt[2:]) - torch.maximum(boxes[:, :2], gt[:2])
        overlap = overlap_wh.clamp(min=0).prod(1)
        area = (gt[2:] - gt[:2]).prod()
        iou = overlap / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + area - overlap)
        threshold = iou.mean() + iou.std()
        s = float(area.clamp(min=1e-4).sqrt())
        for index, value, box in zip(indices.tolist(), iou.tolist(), boxes, strict=True):
            x, y = ((box[:2] + box[2:]) / 2).tolist()
            d = min(x - gt[0], y - gt[1], gt[2] - x, gt[3] - y).item() / s
            inside = {
                0: d > 0.001,
                1: d > -0.25,
                2: d > -0.15,
                3: d * min(max(s / 16, 1), 6) > -0.2,
                4: d * min(max(s / 16, 0.5), 6) > -0.2,
                5: d / min(max(s / 16, 0.5), 3) > -0.2,
            }[inside_mode]
            if value >= threshold and inside and value > owner_iou[index] + 1e-7:
                owner[index] = number
                owner_iou[index] = value
    return owner


@pytest.mark.reference
@pytest.mark.parametrize('mode', range(6))
def test_assign__equals_golden(mode, reference_dir):
    golden = np.load(reference_dir / 'data/scrfd/golden/atss_assign.npz')
    priors, grids = scrfd_priors()
    gts = [torch.from_numpy(golden[f'gt_{case}']) for case in range(3)]
    bboxes, mask = pad(gts, 64)
    slots = BatchedATSSAssigner(topk=9, inside_mode=mode, full_search=True).assign_batch(
        priors, grids, bboxes, mask
    )
    gt_inds = slots.gt_inds(len(priors))
    for case in range(3):
        expected = golden[f'gtinds_{case}_mode{mode}']
        assert (gt_inds[case].numpy() == expected).all()
        iou = torch.zeros(len(priors)).scatter_reduce(
            0,
            slots.prior_index[case].flatten(),
            (slots.iou[case] * slots.positive[case]).flatten(),
            'amax',
        )
        np.testing.assert_allclose(
            iou[expected > 0], golden[f'maxov_{case}_mode{mode}'][expected > 0], rtol=1e-6
        )


@pytest.mark.parametrize('mode', range(6))
def test_assign__equals_literal_per_image_loop(mode):
    generator = torch.Generator().manual_seed(mode)
    priors, grids = scrfd_priors(320)
    gts = [random_faces(generator, count) / 2 for count in (0, 1, 7, 40)]
    bboxes, mask = pad(gts, 64)
    assigner = BatchedATSSAssigner(topk=9, inside_mode=mode)
    slots = assigner.assign_batch(priors, grids, bboxes, mask)
    gt_inds = slots.gt_inds(len(priors))
    for image, gt in enumerate(gts):
        expected = assign_one(priors, slots.prior_index[image, : len(gt)], gt, mode)
        assert gt_inds[image].tolist() == expected
    assert (gt_inds > 0).any()


@pytest.mark.parametrize('full_search', (False, True))
@pytest.mark.parametrize('topk', (1, 4, 9, 20))
@pytest.mark.parametrize('size', (640, 96))
def test_candidates__are_the_nearest_of_every_level(size, topk, full_search):
    generator = torch.Generator().manual_seed(0)
    priors, grids = scrfd_priors(size)
    # Include centres outside of the image, near and far, and at the corners of cells.
    points = (torch.rand(60, 2, generator=generator) * 1.6 - 0.3) * size
    points[40:] = points[40:].div(8).round() * 8
    gts = torch.cat([points - 3, points + 3], dim=1)
    found = BatchedATSSAssigner(topk=topk, full_search=full_search).candidates(
        priors, grids, gts[None]
    )[0]
    levels = torch.arange(len(priors)).split([grid.size for grid in grids])
    counts = [min(topk, grid.size) for grid in grids]
    centres = (priors[:, :2] + priors[:, 2:]) / 2
    for point, indices in zip(points, found, strict=True):
        distance = (centres - point).norm(dim=1)
        for level, chosen in zip(levels, indices.split(counts), strict=True):
            assert len(set(chosen.tolist())) == len(chosen)
            nearest = distance[level].sort().values[: len(chosen)]
            torch.testing.assert_close(distance[chosen].sort().values, nearest)


def test_candidates__grid_with_an_origin_and_other_strides():
    grid = PriorGrid(5, 9, 3, stride=(8.0, 16.0), origin=(4.0, 8.0))
    cells = torch.stack(torch.meshgrid(torch.arange(9), torch.arange(5), indexing='xy'), dim=-1)
    centres = cells.flatten(0, 1).repeat_interleave(3, dim=0) * torch.tensor(grid.stride) + 4
    centres[:, 1] += 4
    priors = torch.cat([centres - 10, centres + 10], dim=1)
    gts = torch.rand(30, 2, generator=torch.Generator().manual_seed(0)) * 80
    gts = torch.cat([gts, gts + 6], dim=1)
    found = BatchedATSSAssigner(topk=7).candidates(priors, [grid], gts[None])[0]
    for gt, chosen in zip(gts, found, strict=True):
        distance = (centres - (gt[:2] + 3)).norm(dim=1)
        torch.testing.assert_close(distance[chosen].sort().values, distance.sort().values[:7])


def test_assign__padding_and_other_images_change_nothing():
    generator = torch.Generator().manual_seed(1)
    priors, grids = scrfd_priors()
    gts = [random_faces(generator, 5), random_faces(generator, 30)]
    assigner = BatchedATSSAssigner()
    together = assigner.assign_batch(priors, grids, *pad(gts, 64)).gt_inds(len(priors))
    for image, gt in enumerate(gts):
        alone = assigner.assign_batch(priors, grids, *pad([gt], len(gt))).gt_inds(len(priors))
        assert torch.equal(together[image], alone[0])


def test_assign__two_identical_faces_share_nothing():
    priors, grids = scrfd_priors()
    face = torch.tensor([[100.0, 100.0, 150.0, 160.0]])
    slots = BatchedATSSAssigner().assign_batch(priors, grids, *pad([face.repeat(2, 1)], 2))
    assert slots.positive[0, 0].any()
    assert not slots.positive[0, 1].any()


def test_assign__no_face_gives_no_positive():
    priors, grids = scrfd_priors()
    slots = BatchedATSSAssigner().assign_batch(priors, grids, *pad([torch.zeros(0, 4)], 32))
    assert not slots.positive.any()


def test_assign__level_with_fewer_priors_than_topk():
    priors, grids = scrfd_priors(64)
    assert grids[-1].size == 8
    gts = torch.tensor([[5.0, 5.0, 60.0, 60.0]])
    slots = BatchedATSSAssigner(topk=9).assign_batch(priors, grids, *pad([gts], 4))
    assert slots.prior_index.shape == (1, 4, 9 + 9 + 8)


def test_assign__result_does_not_depend_on_chunks(monkeypatch):
    generator = torch.Generator().manual_seed(2)
    priors, grids = scrfd_priors()
    padded = pad([random_faces(generator, 50)], 64)
    assigner = BatchedATSSAssigner(full_search=True)
    whole = assigner.assign_batch(priors, grids, *padded)
    monkeypatch.setattr(nearest_priors, '_PAIRS_AT_ONCE', 7 * grids[0].size)
    parts = assigner.assign_batch(priors, grids, *padded)
    assert torch.equal(whole.positive, parts.positive)


@pytest.mark.parametrize('full_search', (False, True))
def test_assign__thousands_of_faces_need_little_memory(full_search):
    generator = torch.Generator().manual_seed(3)
    priors, grids = scrfd_priors()
    padded = pad([random_faces(generator, 2500)], 4096)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slots = BatchedATSSAssigner(full_search=full_search).assign_batch(priors, grids, *padded)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    assert slots.positive.any()
    assert grown < 0.5, f'{grown:.2f} GiB'


def test_init__unknown_inside_mode_is_refused():
    with pytest.raises(ValueError, match='inside_mode must be 0 to 5'):
        BatchedATSSAssigner(inside_mode=6)


def test_crowd__is_assigned_as_one_by_one():
    """Check that an assignment of some faces at a time gives each prior the same face."""
    priors, grids = scrfd_priors()
    faces = random_faces(torch.Generator().manual_seed(3), 3000)
    faces[2000:2500] = faces[:500]  # ties go to the first face, also from an earlier part
    bboxes, mask = pad([faces, faces[:7]], 4096)
    gt = PaddedGroundTruth(bboxes, mask.long(), mask, bboxes[:, :, :3, None].repeat(1, 1, 1, 3))
    assigner = BatchedATSSAssigner()
    whole = assigner.assign_batch(priors, grids, bboxes, mask)
    slots, owners = assigner.assign_crowd(priors, grids, gt)
    wanted = whole.gt_inds(len(priors))
    assert (wanted[0] > module._FACES_AT_ONCE).any()
    assert torch.equal(slots.positive[..., 0], wanted > 0)
    assert torch.equal(owners.mask, wanted > 0)
    number = (wanted - 1).clamp(min=0)
    for row in range(2):
        mine = wanted[row] > 0
        assert torch.equal(owners.bboxes[row][mine], bboxes[row][number[row][mine]])
        assert torch.equal(owners.keypoints[row][mine], gt.keypoints[row][number[row][mine]])


@pytest.mark.parametrize('count', [0, 1, 30])
def test_assign__equals_mmdets_for_a_head_of_mmdet(count):
    priors, grids = scrfd_priors(320)
    sizes = [grid.size for grid in grids]
    priors = InstanceData(priors=priors[::2] + torch.arange(len(priors) // 2)[:, None] * 1e-4)
    faces = random_faces(torch.Generator().manual_seed(count), count) / 2
    gt = InstanceData(bboxes=faces, labels=torch.arange(count) % 3)
    levels = [size // 2 for size in sizes] + [0]  # a level of which the head left out all
    ours = BatchedATSSAssigner(topk=9).assign(priors, levels, gt)
    theirs = ATSSAssigner(topk=9).assign(priors, levels, gt)
    assert ours.gt_inds.tolist() == theirs.gt_inds.tolist()
    assert ours.labels.tolist() == theirs.labels.tolist()
    assert bool(count) == bool((ours.gt_inds > 0).any())
    positive = ours.gt_inds > 0
    torch.testing.assert_close(ours.max_overlaps[positive], theirs.max_overlaps[positive])


def test_assign__refuses_a_head_without_levels():
    gt = InstanceData(bboxes=torch.zeros(1, 4), labels=torch.zeros(1, dtype=torch.long))
    priors = InstanceData(priors=torch.zeros(3, 4))
    with pytest.raises(ValueError, match='this head gives none: use MaxIoUAssigner'):
        BatchedATSSAssigner().assign(priors, gt, None)
