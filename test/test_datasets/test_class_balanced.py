# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Draws in a data set that repeats rare classes depend on the epoch, as in any other."""

from __future__ import annotations

import torch
from mmdet.registry import DATASETS

from mmface.datasets import SeededClassBalancedDataset
from mmface.utils.epoch_index import EpochIndex

STEPS = [
    dict(type='SeedSample'),
    dict(type='LoadFaceAnnotations'),
    dict(type='RandomSquareCrop', crop_choice=[0.5, 1.0, 1.5], size=48),
    dict(type='PackFaceInputs'),
]


def test_repeated_images__have_the_draws_of_their_own_index(toy, mmdet_scope):
    inner = dict(
        type='WiderFaceDataset',
        data_root=str(toy),
        ann_file='train/labelv2.txt',
        data_prefix=dict(img_path='train/images/'),
        pipeline=STEPS,
    )
    # Above 1, so that the only class is rare enough and each image comes twice.
    dataset = DATASETS.build(dict(type='ClassBalancedDataset', oversample_thr=2.0, dataset=inner))
    assert isinstance(dataset, SeededClassBalancedDataset)
    assert len(dataset) == 24

    def image(index, epoch):
        return dataset[EpochIndex(index, epoch, seed=7)]['inputs']

    torch.rand(3)  # the global state does not matter
    assert torch.equal(image(2, epoch=0), image(2, epoch=0))
    assert not torch.equal(image(2, epoch=0), image(2, epoch=1))
    assert not torch.equal(image(2, epoch=0), image(3, epoch=0))  # the same image, drawn again
    assert dataset[2]['data_samples'].img_id == dataset[3]['data_samples'].img_id
