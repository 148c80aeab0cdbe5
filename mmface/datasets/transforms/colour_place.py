# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Where the colours of training images are distorted: in the workers or on the device.

The change of an image is drawn in the worker in any case, from the same generator, so it is
the same in both places and after a resume; the pixels are the same but for rounding, one grey
level at most. On an accelerator the whole batch is changed at once by ``FaceDataPreprocessor``,
which takes the most expensive step out of the workers; where the network itself runs on the
CPU, the workers do it.

A change that waits is applied to the pixels that the model gets, so no transform that mixes
pixels (resizing, for one) may come after it; mirroring may. Data preprocessors other than
``FaceDataPreprocessor`` do not know of it: use ``on_device=False`` with them.
"""

from __future__ import annotations

from mmengine.device import get_device

from mmface.utils.colour_map import ColourMap


def use_device_colours(on_device: bool | None) -> bool:
    """Resolve ``None``: on the device if that is not the CPU."""
    return get_device() != 'cpu' if on_device is None else on_device


def defer_colours(results: dict, colours: ColourMap) -> None:
    """Leave a change to the data preprocessor: set ``colour_map``.

    Raises:
        ValueError: If a change waits already; one image has one.
    """
    if 'colour_map' in results:
        raise ValueError(
            'two transforms of colours in one pipeline: expected at most one with '
            'on_device=True, found a second. Set on_device=False for the first'
        )
    results['colour_map'] = colours
