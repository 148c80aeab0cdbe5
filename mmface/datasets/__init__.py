# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Data sets, samplers and transforms. Importing this package registers them.

Without torch and the mm packages the readers of labels still work (they need only numpy and the
packages that read images): then nothing is registered, and asking for a data set names what is
missing.
"""

from typing import Any

from mmface.utils.extras import SET_UP

try:
    from mmface.datasets import transforms
    from mmface.datasets.class_balanced import SeededClassBalancedDataset
    from mmface.datasets.coco_boxes import CocoBoxDataset
    from mmface.datasets.endless_batch_sampler import EndlessBatchSampler
    from mmface.datasets.samplers import EpochIndexSampler
    from mmface.datasets.wider_face import WiderFaceDataset
except ModuleNotFoundError as error:
    if (error.name or '').partition('.')[0] not in SET_UP:
        raise
    _missing = error

    def __getattr__(name: str) -> Any:
        """Say which package a data set needs."""
        if name in __all__:
            raise _missing
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__all__ = [
    'CocoBoxDataset',
    'EndlessBatchSampler',
    'EpochIndexSampler',
    'SeededClassBalancedDataset',
    'WiderFaceDataset',
    'transforms',
]
