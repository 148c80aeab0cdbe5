# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Base of the metrics that keep one record for each image."""

from __future__ import annotations

import sys

from mmengine.evaluator import BaseMetric


class ImageMetric(BaseMetric):
    """A metric whose records carry the name of their image.

    With several ranks a sampler repeats some images so that every rank gets the same
    number. mmengine cuts the collected results to the length of the data set, which
    drops the repetitions only if they come last, that is only for its own sampler's order.
    Here ``compute_metrics`` gets everything and drops repetitions by name.
    """

    def evaluate(self, size: int) -> dict[str, float]:
        """Collect the records of all ranks and compute the metrics; ``size`` is not used."""
        return super().evaluate(sys.maxsize)
