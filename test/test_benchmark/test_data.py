# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The timed pipelines do the same work; otherwise their times could not be compared."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmface_benchmark import data

from mmface.models import FaceDataPreprocessor
from mmface.toys.widerface import make_toy_widerface

CONFIGS = ['configs/scrfd/scrfd_500m_bnkps.py', 'configs/centerface/centerface.py']


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy')
    return make_toy_widerface(root, num_train=8, num_val=0, image_size=(320, 240), seed=3)


def make_args(toy, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument('--rounds', type=int, default=1)
    data.add_arguments(parser)
    places = ['--labels', str(toy / 'train/labelv2.txt'), '--images', str(toy / 'train/images')]
    return parser.parse_args([*words, *places, '--batch-size', '2'])


@pytest.mark.parametrize('config', CONFIGS)
def test_references__make_the_same_samples(toy, repo, config):
    cfg = Config.fromfile(repo / config)
    pipeline, settings = cfg.train_dataloader.dataset.pipeline, dict(cfg.model.data_preprocessor)
    settings.pop('type')
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = data._build_dataset(
            cfg.train_dataloader.dataset,
            str(toy / 'train/labelv2.txt'),
            str(toy / 'train/images'),
        )
        ways = {'ours': data._build_pipeline(pipeline, on_device=False)}
        references = data._references(pipeline, cfg.model.data_preprocessor)
        ways.update({name: transforms for name, (transforms, _) in references.items()})
    # Enlarged images are not cropped at the same pixels.
    reference = data.SHRINKING if data.SHRINKING in ways else data.STOCK
    feeds = {
        name: data._Feed(dataset, 1, ways[name], lambda samples: samples)
        for name in ('ours', reference)
    }
    prepare = FaceDataPreprocessor(**{**settings, 'pad_size': None})
    for _ in range(len(dataset)):
        (ours,), (theirs,) = (feed() for feed in feeds.values())
        faces = [sample['data_samples'].gt_instances.bboxes for sample in (ours, theirs)]
        # Whole pixels: the two axes of a reduced image may have slightly different scales.
        np.testing.assert_allclose(faces[0], faces[1], rtol=0.02, atol=1)
        image = prepare(data._collate([ours]))['inputs'][0]
        assert theirs['inputs'].dtype == torch.float32
        assert theirs['inputs'].shape == image.shape
        # Ours is clipped to the range of grey levels, and the interpolations differ.
        low, high = image.amin((1, 2), keepdim=True), image.amax((1, 2), keepdim=True)
        difference = (image - theirs['inputs'].clamp(low, high)).abs()
        assert difference.mean() < 0.15 * image.std()


def test_run__a_table_of_each_place_of_the_colours(toy, repo):
    found = data.run(make_args(toy, str(repo / CONFIGS[0])))
    names = [[timing.name for timing in comparison.timings] for comparison in found]
    references = [data.STOCK, data.BATCHED]
    alone = [data.DECODING, data.SIMPLEJPEG]
    assert names == [[data.OURS, *references], [data.OURS, data.COLOURED, *references, *alone]]
    assert all(timing.median > 0 for comparison in found for timing in comparison.timings)
    for whole in (data.OURS, data.COLOURED):
        assert all(float(found[1].notes[f'{whole} / {each}']) > 0 for each in alone)


def test_run__refuses_other_pipelines_and_half_a_place(toy, repo):
    with pytest.raises(ValueError, match='SCRFD or CenterFace, found'):
        data._references([dict(type='PackFaceInputs')], {})
    args = make_args(toy, str(repo / CONFIGS[0]))
    args.images = None
    with pytest.raises(ValueError, match='--labels and --images together'):
        data.run(args)
