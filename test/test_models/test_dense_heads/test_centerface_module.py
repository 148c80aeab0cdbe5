# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The network of the CenterFace head."""

from __future__ import annotations

import pytest
import torch

from mmface.models import CenterFaceModule


@pytest.mark.parametrize(('keypoints', 'channels'), [(5, [1, 2, 2, 10]), (0, [1, 2, 2])])
def test_forward__one_map_per_quantity(keypoints, channels):
    module = CenterFaceModule(24, num_keypoints=keypoints)
    maps = module((torch.zeros(2, 24, 8, 12),))
    assert [tuple(level.shape) for level in maps] == [(2, count, 8, 12) for count in channels]
    assert sum(p.numel() for p in module.parameters()) == 25 * sum(channels)


@pytest.mark.parametrize('prior', [0.1, 0.01])
def test_init__heat_starts_at_the_prior(prior):
    module = CenterFaceModule(24, prior_prob=prior)
    module.init_weights()
    heat, *others = module((torch.randn(1, 24, 8, 8),))
    torch.testing.assert_close(heat.sigmoid().mean(), torch.tensor(prior), rtol=0.02, atol=0)
    assert all(level.abs().max() < 0.05 for level in others)


@pytest.mark.parametrize('prior', [0, 1, -0.5])
def test_init__impossible_prior_is_refused(prior):
    with pytest.raises(ValueError, match=r'must be inside \(0, 1\)'):
        CenterFaceModule(24, prior_prob=prior)
