# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Times of a video only go forwards."""

from __future__ import annotations

import numpy as np

from mmface.apis.video.clock import Clock


def test_clock__always_forwards():
    clock = Clock(0.1)
    times = [clock.next(t) for t in (5.0, 5.1, None, 5.3, 0.0, 0.1, 0.1, 0.4)]
    np.testing.assert_allclose(times, [5.0, 5.1, 5.2, 5.3, 5.4, 5.5, 5.6, 5.9])
