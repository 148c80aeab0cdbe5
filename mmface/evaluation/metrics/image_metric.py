# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Base class of the metrics that keep one record per image."""

from __future__ import annotations

import sys

from mmengine.evaluator import BaseMetric


class ImageMetric(BaseMetric):
    """A metric whose records contain the name of their image.

    With several ranks, a sampler repeats some images so that every rank gets the same number.
    mmengine cuts the collected results to the length of the dataset. This removes the repeated
    images only if they come last, as with mmengine's own sampler. Here ``compute_metrics`` gets
    all records and removes repeated images by name.
    """

    def evaluate(self, size: int) -> dict[str, float]:
        """Collect the records of all ranks and compute the metrics; ``size`` is not used."""
        return super().evaluate(sys.maxsize)
