# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Set the image size of a config for training and testing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmengine.config import Config

from mmface.utils.config_dicts import dicts

#: Longest short and long side, in pixels, in the mode 1650: the larger single-scale test size of
#: RetinaFace and SCRFD. Portrait and landscape images are resized in the same way.
SCALE_1650 = (1100, 1650)
#: Transforms that cut a square for training.
SQUARES = ('RandomSquareCrop', 'FaceAffineCrop')
#: Transforms of other configs, and their options with sizes in pixels.
SIZES = {
    'Resize': ('scale',),
    'RandomResize': ('scale',),
    'RandomChoiceResize': ('scales',),
    'RandomCrop': ('crop_size',),
}


def set_image_size(cfg: Config, size: int) -> None:
    """Set the image size of training, validation and testing.

    A config that trains on squares has the side ``size``. In a config with sizes of both sides,
    such as (800, 1333), the short side of the test becomes ``size``, and all other sizes of its
    pipelines scale with it.

    Args:
        cfg: Changed in place.
        size: Pixels, a multiple of 32.

    Raises:
        ValueError: ``size`` is not such a number, or the config has no known transform.
    """
    if size < 32 or size % 32:
        raise ValueError(f'image size: expected a multiple of 32, found {size}')
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    squares = [step for step in dicts(cfg.get('train_dataloader')) if step.get('type') in SQUARES]
    if squares:
        for step in squares:
            step['size'] = size
        set_test_mode(cfg, str(size), loaders[1:])
        return
    scales = [step['scale'] for step in dicts(cfg.get('test_dataloader')) if 'scale' in step]
    if not scales:
        raise ValueError(
            f'image size needs {" or ".join(SQUARES)} in the training pipeline, or a Resize with '
            'scale in the test pipeline; this config has none'
        )
    ratio = size / min(scales[0])
    changed: set[int] = set()  # loaders may share their pipelines
    for step in dicts([cfg.get(loader) for loader in loaders]):
        for key in SIZES.get(str(step.get('type')), ()):
            if key in step and id(step) not in changed:
                step[key] = _scaled(step[key], ratio)
        changed.add(id(step))
    preprocessor = cfg.model.data_preprocessor
    if preprocessor.get('pad_size'):
        divisor = preprocessor.get('pad_size_divisor', 32)
        sides = _scaled(preprocessor.pad_size, ratio)
        preprocessor.pad_size = tuple(-(-side // divisor) * divisor for side in sides)


def _scaled(value: Any, ratio: float) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_scaled(item, ratio) for item in value)
    return round(value * ratio)


def set_test_mode(cfg: Config, mode: str, loaders: Iterable[str]) -> None:
    """Set the image size in the pipelines of some loaders. See :func:`.set_mode`."""
    from mmface.datasets.transforms import RESIZES  # imported here: --help must not need torch

    square = mode == 'vga' or (mode.isdecimal() and int(mode) > 0 and int(mode) % 32 == 0)
    if not square and mode not in ('1650', 'origin'):
        raise ValueError(
            f"mode must be vga, 1650, origin or a multiple of 32 such as 960, not '{mode}'"
        )
    side = 640 if mode == 'vga' else int(mode) if square else None
    scale = None if mode == 'origin' else (side, side) if side else SCALE_1650
    pipelines = [cfg.get(loader) for loader in loaders]
    steps = [item for item in dicts(pipelines) if item.get('type') in RESIZES]
    if not steps:
        raise ValueError(
            f'mode needs {" or ".join(RESIZES)} in the test pipeline; this config has none'
        )
    stretched = steps[0]['type'] == 'FaceStretch'
    for step in steps:
        resize: dict[str, Any]
        if step['type'] == 'FaceStretch':
            resize = dict(type='FaceStretch', divisor=32, scale=scale)
        elif step['type'] == 'FaceLetterbox' and side:  # it pads to a square
            resize = {**step, 'size': side}
        elif scale:
            resize = dict(type='FaceResize', scale=scale, keep_ratio=True)
        else:
            # mmdet's transform accepts a factor. It records factor 1, by which decoding divides.
            resize = dict(type='Resize', scale_factor=1.0, keep_ratio=True)
        step.clear()
        step.update(resize)
    pad_size = (side, side) if side and not stretched else None
    cfg.model.data_preprocessor.update(pad_size=pad_size, pad_size_divisor=32)
