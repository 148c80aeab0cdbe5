# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""COCO images in the CenterNet2 pipeline, compared with the steps of the reference."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmface.toys.coco import CLASSES, make_toy_coco
from mmface.utils.epoch_index import EpochIndex

for name in ('mmface.datasets', 'mmface.models'):
    importlib.import_module(name)


@pytest.fixture(scope='module')
def cfg(repo):
    cfg = Config.fromfile(
        repo / 'configs/centernet2/centernet2_r50_1x.py', import_custom_modules=False
    )
    init_default_scope(cfg.default_scope)
    return cfg


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    return make_toy_coco(tmp_path_factory.mktemp('toy'), num_train=9, num_val=3)


@pytest.fixture(scope='module')
def data(cfg, toy):
    """Build training and test data with all images."""
    options = dict(data_root=str(toy), metainfo=dict(classes=CLASSES), filter_cfg=None)
    return [
        DATASETS.build({**loader.dataset, **options})
        for loader in (cfg.train_dataloader, cfg.val_dataloader)
    ]


def _reference_size(height, width, short, longest):
    """Compute the size as detectron2 ``ResizeShortestEdge.get_output_shape`` does."""
    scale = short / min(height, width)
    high, wide = (short, scale * width) if height < width else (scale * height, short)
    if max(high, wide) > longest:
        scale = longest / max(high, wide)
        high, wide = high * scale, wide * scale
    return int(high + 0.5), int(wide + 0.5)


@pytest.mark.parametrize('index', [0, 6, 8])
def test_training_sample__equals_that_of_the_reference(data, toy, index):
    """Size, pixels and boxes are equal for each of the sizes that the draws give."""
    train = data[0]
    table = json.loads((toy / 'annotations/instances_train2017.json').read_text())
    rows = [row for row in table['annotations'] if row['image_id'] == index + 1]
    stored = np.asarray(Image.open(toy / f'train2017/{index + 1:012d}.jpg').convert('RGB'))
    shorts, flips = set(), set()
    for epoch in range(12):
        sample = train[EpochIndex(index, epoch, 3)]
        image, truth = sample['inputs'].numpy(), sample['data_samples']
        height, width = truth.img_shape
        shorts.add(min(truth.img_shape))
        flips.add(truth.flip)
        assert (height, width) == _reference_size(*stored.shape[:2], min(height, width), 1333)
        # The reference resizes a BGR array as if it were RGB.
        small = Image.fromarray(np.ascontiguousarray(stored[..., ::-1]))
        expected = np.asarray(small.resize((width, height), Image.BILINEAR))
        expected = expected[:, ::-1] if truth.flip else expected
        assert (image.transpose(1, 2, 0) == expected).all()
        factor = np.array([width / stored.shape[1], height / stored.shape[0]] * 2)
        boxes = np.array([row['bbox'] for row in rows if not row['iscrowd']])
        boxes[:, 2:] += boxes[:, :2]
        boxes *= factor
        if truth.flip:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        np.testing.assert_allclose(truth.gt_instances.bboxes, boxes, atol=1e-3)
    assert shorts <= {640, 672, 704, 736, 768, 800}
    assert len(shorts) >= 3
    assert flips == {False, True}


def test_training_sample__depends_on_the_epoch_and_nothing_else(data):
    first, again = (data[0][EpochIndex(6, 4, 3)] for _ in range(2))
    assert first['data_samples'].img_shape == again['data_samples'].img_shape
    assert (first['inputs'] == again['inputs']).all()


def test_crowd__is_no_ground_truth(data):
    sample = data[0][EpochIndex(2, 0, 3)]['data_samples']
    assert (len(sample.gt_instances), len(sample.ignored_instances)) == (0, 1)


def test_sizes__are_those_of_the_reference(cfg):
    generator = np.random.default_rng(0)
    resize = TRANSFORMS.build(cfg.test_pipeline[1])
    for _ in range(40):
        height, width = (int(v) for v in generator.integers(20, 900, 2))
        short = int(generator.choice([640, 704, 800]))
        resize.scale = (short, 1333)
        done = resize(dict(img=np.zeros((height, width, 3), np.uint8)))
        assert done['img'].shape[:2] == _reference_size(height, width, short, 1333)


def test_test_sample__ground_truth_stays_in_stored_pixels(data):
    sample = data[1][0]['data_samples']
    assert min(sample.img_shape) == 800
    assert sample.ori_shape == (240, 320)
    assert (sample.gt_instances.bboxes[:, 2] <= 320).all()
    assert isinstance(sample.img_id, int)
