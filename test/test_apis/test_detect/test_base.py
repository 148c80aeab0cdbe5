# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of the parts that detection in images and in videos share."""

from __future__ import annotations

import numpy as np

from mmface.apis.detect.base import above
from mmface.structures import Face


def test_above__keeps_what_a_detector_with_this_threshold_returns():
    scores = np.array([0.9, 0.2, np.nextafter(np.float32(0.2), np.float32(1)), 0.1], np.float32)
    faces = [Face(np.array([0, 0, 9, 9], np.float32), float(score)) for score in scores]
    # As the networks' outputs are compared; as a double, the second score is above 0.2.
    kept = np.flatnonzero(scores > 0.2)
    assert kept.tolist() == [0, 2]
    found = above(lambda images: [faces, []], 0.2)([np.zeros((9, 9, 3), np.uint8)] * 2)
    assert found == [[faces[0], faces[2]], []]
