# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Test pipelines for images without labels."""

from __future__ import annotations

from mmengine.config import Config
from mmengine.dataset import Compose

LOADERS = ('LoadFaceImage', 'LoadImageFromFile')


def image_pipeline(cfg: Config, max_pixels: int | None = None) -> Compose:
    """Build the test pipeline of a config so that it accepts ``dict(img=array)``.

    Args:
        cfg: A complete config.
        max_pixels: Where the network takes each image in its own size, larger images are shrunk
            to this number of pixels. ``None``: no limit.

    Raises:
        ValueError: The pipeline does not load an image.
    """
    steps = cfg.test_dataloader.dataset.pipeline
    places = [i for i, step in enumerate(steps) if step['type'].split('.')[-1] in LOADERS]
    if not places:
        raise ValueError(f'the test pipeline of the config has none of {", ".join(LOADERS)}')
    steps = [dict(step) for step in steps[places[0] + 1 :]]
    for step in steps:
        if step['type'].split('.')[-1] == 'FaceStretch':
            step.setdefault('max_pixels', max_pixels)
    return Compose([dict(type='LoadFaceImage'), *steps])
