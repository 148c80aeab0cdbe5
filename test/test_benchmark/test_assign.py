# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Both sides of the benchmark of assignment and losses do the same work."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmface_benchmark.assign import OURS, STOCK, make_ways

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/scrfd'


@pytest.mark.parametrize('faces', (1, 30))
def test_ways__have_nearly_the_same_loss(faces):
    ways = make_ways(str(CONFIGS / 'scrfd_500m.py'), 2, faces, 'cpu')
    # mmdet's inside test is in pixels, SCRFD's is relative to the face. Ties are broken in
    # different ways.
    assert ways[OURS]() == pytest.approx(ways[STOCK](), rel=0.05)


def test_make_ways__keypoints_are_refused():
    with pytest.raises(ValueError, match='without keypoints'):
        make_ways(str(CONFIGS / 'scrfd_500m_bnkps.py'), 1, 1, 'cpu')
