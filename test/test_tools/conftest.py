# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Provide a training that takes seconds, for the tests of the tools."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mmface.datasets.annotations import read_annotations

CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'
SIDE = '(96,96)'


@pytest.fixture(scope='session')
def small():
    """Return options that make the config small: batch 4, 96 pixels, no workers, 2 epochs."""
    return [
        '--cfg-options',
        'train_cfg.max_epochs=2',
        'train_cfg.val_interval=10',
        'train_dataloader.batch_size=4',
        'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
        'test_dataloader.num_workers=0',
        'train_dataloader.dataset.pipeline.2.size=96',
        f'val_dataloader.dataset.pipeline.1.scale={SIDE}',
        f'test_dataloader.dataset.pipeline.1.scale={SIDE}',
        f'model.data_preprocessor.pad_size={SIDE}',
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.interval=1',
    ]


@pytest.fixture(scope='session')
def checkpoint(door, toy, small, once):
    """Return the last checkpoint of two epochs of training, in its work dir."""

    def train(work):
        door('tools/train.py', CONFIG, '--data-path', toy, '--work-dir', work, '--seed', 5, *small)

    return once('trained', train) / 'epoch_2.pth'


@pytest.fixture(scope='session')
def toy_coco(once):
    """Draw 9 training and 4 validation images in the layout of COCO, with the edge cases."""
    from mmface.toys.coco import make_toy_coco

    options = dict(num_train=9, num_val=4, image_size=(96, 64), seed=3)
    return once('toy_coco', lambda folder: make_toy_coco(folder, **options))


@pytest.fixture(scope='session')
def own_faces(toy):
    """Return ``own_faces(folder, kind)``: it writes the drawn images with labelme files.

    The kinds are 'five' and 'four' (keypoints), 'boxes', and 'classes' (boxes of two classes).
    """
    names = ['left_eye', 'right_eye', 'nose', 'left_mouth', 'right_mouth']
    points_of = {'five': names, 'four': [*names[:3], 'chin'], 'boxes': [], 'classes': []}

    def write(folder, kind):
        for split in ('train', 'val'):
            images = folder / split / 'images'
            images.mkdir(parents=True)
            for image in read_annotations(toy / split / 'labelv2.txt').images:
                file = images / Path(image.path).name
                shutil.copy(toy / split / 'images' / image.path, file)
                shapes = []
                for group, box in enumerate(image.bboxes.tolist()):
                    label = 'mask' if kind == 'classes' and group % 2 else 'face'
                    box_shape = {'shape_type': 'rectangle', 'points': [box[:2], box[2:]]}
                    shapes.append({**box_shape, 'label': label, 'group_id': group})
                    points = zip(points_of[kind], image.keypoints[group].tolist(), strict=False)
                    for name, (x, y, weight) in points:
                        if weight > 0:
                            point = {'shape_type': 'point', 'points': [[x, y]]}
                            shapes.append({**point, 'label': name, 'group_id': group})
                table = {'shapes': shapes, 'imagePath': file.name}
                size = {'imageWidth': image.width, 'imageHeight': image.height}
                file.with_suffix('.json').write_text(json.dumps({**table, **size}))
        return folder

    return write


@pytest.fixture(scope='session')
def own_data(own_faces, door, once):
    """Write the drawn images and their labels as the configs for fine-tuning read them."""

    def convert(folder):
        own_faces(folder, 'five')
        for split in ('train', 'val'):
            labels = folder / split
            door('tools/data/convert_labels.py', labels / 'images', labels / 'labels.json')

    return once('own_data', convert)
