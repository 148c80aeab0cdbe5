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

    Augmentation then depends neither on the number of workers nor on earlier draws. So a resumed
    run gets the same samples as an uninterrupted run. The three numbers are read from
    ``results['sample_idx']``, an ``EpochIndex`` from ``EpochIndexSampler``. With a plain index
    (another sampler, a notebook) the generators are not seeded.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Seed the generators. ``results`` is returned unchanged."""
        index = results.get('sample_idx')
        if isinstance(index, EpochIndex):
            seed_host_generators(derive_seed(index.seed, index.epoch, index.origin))
        return results
