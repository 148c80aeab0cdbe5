# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Pooling in fixed shapes gives the same results as gathering."""

from __future__ import annotations

import torch

from helpers import random_maps
from mmface.models.roi_heads.fixed_shape_roi_extractor import FixedShapeRoIExtractor

STRIDES = [8, 16, 32, 64, 128]
SHAPES = [(2, 4, 1024 // stride, 1024 // stride) for stride in STRIDES]


def extractor() -> FixedShapeRoIExtractor:
    return FixedShapeRoIExtractor(
        roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
        out_channels=4,
        featmap_strides=STRIDES,
        finest_scale=112,
    )


def rois() -> torch.Tensor:
    """Build boxes of all levels, some of them partly outside the image, and empty ones."""
    torch.manual_seed(1)
    corner = torch.rand(60, 2) * 1000 - 100
    size = 2 ** (2 + torch.rand(60, 1) * 9.5) * torch.rand(60, 2).add(0.5)
    boxes = torch.cat([corner, corner + size], dim=1)
    boxes[:3, 2] = boxes[:3, 0]
    boxes[3:5] = 0
    return torch.cat([torch.arange(60)[:, None] % 2, boxes], dim=1)


def test_fixed_shape__values_and_gradients_are_the_same():
    pool, boxes = extractor(), rois()
    assert set(pool.map_roi_levels(boxes, 5).tolist()) == {0, 1, 2, 3, 4}
    results = []
    for fixed_shape in (False, True):
        feats = random_maps(*SHAPES, grad=True)
        pooled = pool(feats, boxes, fixed_shape=fixed_shape)
        (
            pooled * torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2))
        ).sum().backward()
        results.append([pooled, *(feat.grad for feat in feats)])
    for one, two in zip(*results, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def test_fixed_shape__every_map_gets_a_gradient_although_no_box_is_there():
    """Check the gradients: a distributed model waits for one if another device computes it."""
    for fixed_shape in (False, True):
        feats = random_maps(*SHAPES, grad=True)
        box = torch.tensor([[0.0, 10.0, 10.0, 50.0, 50.0]])
        extractor()(feats, box, fixed_shape=fixed_shape).sum().backward()
        assert all(feat.grad is not None for feat in feats)
        assert feats[0].grad.abs().sum() > 0
        assert all(feat.grad.abs().sum() == 0 for feat in feats[1:])


def test_levels__are_those_of_detectron2():
    side = torch.cat([torch.linspace(1, 2000, 5000), torch.tensor([112.0, 224.0, 448.0, 896.0])])
    boxes = torch.stack([torch.zeros_like(side)] * 3 + [side, side], dim=1)
    level = (4 + (side / 224 + 1e-8).log2()).floor().clamp(3, 7) - 3
    assert torch.equal(extractor().map_roi_levels(boxes, 5), level.long())
