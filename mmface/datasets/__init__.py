# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Data sets, samplers and transforms. Importing this package registers them."""

from mmface.datasets import transforms
from mmface.datasets.coco_boxes import CocoBoxDataset
from mmface.datasets.endless_batch_sampler import EndlessBatchSampler
from mmface.datasets.samplers import EpochIndexSampler
from mmface.datasets.wider_face import WiderFaceDataset

__all__ = [
    'CocoBoxDataset',
    'EndlessBatchSampler',
    'EpochIndexSampler',
    'WiderFaceDataset',
    'transforms',
]
