# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Assignment and losses of SCRFD on the device against mmdet's, image by image."""

from __future__ import annotations

from functools import partial
from typing import Any

from mmface.utils.config_files import config_path
from mmface_benchmark import assign
from mmface_benchmark.device.settings import Settings
from mmface_benchmark.timing import compare

TARGET = 10


def run(settings: Settings) -> None:
    """Save the time of both for each number of faces, and their ratio."""
    config = str(config_path(settings.pick('scrfd_10g', 'scrfd_500m')))
    batch_size = settings.pick(32, 2)
    settings.save('batch_size', batch_size)
    settings.save('target', TARGET)
    for faces in settings.pick((1, 30, 1000), (1, 30)):
        settings.part(f'{faces} faces', partial(measure, config, batch_size, faces, settings))


def measure(config: str, batch_size: int, faces: int, settings: Settings) -> dict[str, Any]:
    """Time both with this number of faces in each image."""
    ways = assign.make_ways(config, batch_size, faces, settings.device)
    losses = {name: way() for name, way in ways.items()}
    found = compare('assignment', ways, settings.pick(5, 1), 1, settings.wait)
    (ratio,) = found.ratios
    return {
        'ratio': ratio.median,
        'quartiles': [ratio.low, ratio.high],
        'milliseconds': {timing.name: 1e3 * timing.median for timing in found.timings},
        'losses': losses,
    }
