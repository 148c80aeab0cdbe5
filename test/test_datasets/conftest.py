# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A few images in the canonical layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

POINTS = '20 25 1 40 25 1 30 35 0 22 50 0 38 50 1'


@pytest.fixture
def tiny_root(tmp_path: Path) -> Path:
    """Write six training images: two with faces, no face, only ignored, too small, no area."""
    root = tmp_path / 'WIDERFace'
    labels = {
        'a/1.jpg': (64, 48, [f'10 10 50 60 {POINTS}', '1 1 9 9', '5 5 5 9']),
        'a/2.jpg': (80, 60, ['20 20 40 40 0', '1 1 9 9 1']),
        'b/3.jpg': (64, 64, []),
        'b/4.jpg': (64, 64, ['1 1 20 20 1']),
        'b/5.jpg': (31, 200, ['1 1 20 20']),
        'b/6.jpg': (64, 64, ['7 7 7 7']),
    }
    lines = []
    rng = np.random.default_rng(0)
    for path, (width, height, rows) in labels.items():
        image = root / 'train/images' / path
        image.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        lines += [f'# {path} {width} {height}', *rows]
    (root / 'train/labelv2.txt').write_text('\n'.join(lines))
    return root
