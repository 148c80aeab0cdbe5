# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Where the colours of training images are distorted: in the workers or on the device.

The worker always draws the change of an image from the same generator. So the change is the
same with either choice and after a resume. The pixels differ only by rounding, by one grey
level at most. On an accelerator, ``FaceDataPreprocessor`` changes the whole batch at once. This
removes the most expensive step from the workers. If the network runs on the CPU, the workers
apply the change.

A deferred change is applied to the pixels that the model gets. So no transform that mixes
pixels, such as a resize, may come after it; a flip may. Data preprocessors other than
``FaceDataPreprocessor`` ignore the change: use ``on_device=False`` with them.
"""

from __future__ import annotations

from mmengine.device import get_device

from mmface.utils.colour_map import ColourMap


def use_device_colours(on_device: bool | None) -> bool:
    """Return ``on_device``; ``None`` becomes true if the device is not the CPU."""
    return get_device() != 'cpu' if on_device is None else on_device


def defer_colours(results: dict, colours: ColourMap) -> None:
    """Set ``colour_map``, so that the data preprocessor applies the change.

    Raises:
        ValueError: A change is deferred already; an image can have only one.
    """
    if 'colour_map' in results:
        raise ValueError(
            'two colour transforms in one pipeline: expected at most one with '
            'on_device=True, found a second. Set on_device=False for the first'
        )
    results['colour_map'] = colours
