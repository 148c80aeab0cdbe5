# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""One image size for training, validation and testing, in every config."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from mmface.apis.image_size import SIZES, SQUARES, set_image_size
from mmface.datasets.transforms import RESIZES
from mmface.utils.config_dicts import dicts

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
ALL = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob('[!_]*/*.py'))
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def sizes(cfg):
    """Return the values in pixels of all transforms, and the padding."""
    values = [
        step[key]
        for step in dicts([cfg[loader] for loader in LOADERS])
        for key in (*SIZES.get(str(step.get('type')), ()), 'size', 'scale')
        if key in step and step['type'] in {*SIZES, *SQUARES, *RESIZES}
    ]
    return [*values, cfg.model.data_preprocessor.get('pad_size')]


@pytest.mark.parametrize('name', ALL)
def test_set_image_size__reaches_every_pipeline(name):
    cfg = Config.fromfile(CONFIGS / name, import_custom_modules=False)
    set_image_size(cfg, 416)
    if 'annotations/instances_val2017.json' in str(cfg.val_evaluator):
        scales = [step['scale'] for step in dicts(cfg.test_dataloader) if 'scale' in step]
        assert min(scales[0]) == 416
        before = sizes(Config.fromfile(CONFIGS / name, import_custom_modules=False))
        assert not set(map(str, before)) & set(map(str, sizes(cfg))) - {'None'}
    else:
        stretched = 'FaceStretch' in cfg.pretty_text
        assert set(map(str, sizes(cfg))) <= {'416', '(416, 416)', *(['None'] * stretched)}


@pytest.mark.parametrize('size', [0, -32, 100])
def test_set_image_size__refuses_others(size):
    cfg = Config.fromfile(CONFIGS / ALL[0], import_custom_modules=False)
    with pytest.raises(ValueError, match='multiple of 32'):
        set_image_size(cfg, size)


def test_set_image_size__refuses_unknown_pipelines():
    cfg = Config.fromfile(CONFIGS / 'scrfd/scrfd_500m.py', import_custom_modules=False)
    cfg.train_dataloader.dataset.pipeline = []
    cfg.test_dataloader.dataset.pipeline = []
    with pytest.raises(ValueError, match='RandomSquareCrop or FaceAffineCrop'):
        set_image_size(cfg, 320)
