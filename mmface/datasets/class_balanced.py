# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Repeat the images of rare classes, with draws that depend on the epoch."""

from __future__ import annotations

from mmdet.registry import DATASETS
from mmengine.dataset import ClassBalancedDataset

from mmface.utils.epoch_index import EpochIndex


# In place of mmengine's class of this name, which replaces the index of the sampler by a plain
# number: ``SeedSample`` then does nothing, and a resumed run gets other samples.
@DATASETS.register_module(name='ClassBalancedDataset')
class SeededClassBalancedDataset(ClassBalancedDataset):
    """mmengine's ``ClassBalancedDataset``, which keeps the epoch and the seed of an index.

    Args: see ``ClassBalancedDataset``.
    """

    def _get_ori_dataset_idx(self, idx: int) -> int:
        found = super()._get_ori_dataset_idx(idx)
        return idx.moved(found) if isinstance(idx, EpochIndex) else found
