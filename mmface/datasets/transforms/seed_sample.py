# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The first transform of every training pipeline."""

from __future__ import annotations

from typing import Any

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmface.utils.epoch_index import EpochIndex
from mmface.utils.seeding import derive_seed, seed_host_generators


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """Seed ``random`` and ``numpy.random`` from (seed, epoch, index) of the sample.

    Augmentation then depends neither on the number of workers nor on what was drawn
    before, so a resumed run sees what the unbroken one would have seen. The three numbers
    are read from ``results['sample_idx']``, an ``EpochIndex`` from ``EpochIndexSampler``.
    A plain index (another sampler, a notebook) leaves the generators alone.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Seed the generators; ``results`` is returned unchanged."""
        index = results.get('sample_idx')
        if isinstance(index, EpochIndex):
            seed_host_generators(derive_seed(index.seed, index.epoch, index.origin))
        return results
