# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A change of the colours of an image that can wait until the image is on the device."""

from __future__ import annotations

from typing import NamedTuple


class ColourMap(NamedTuple):
    """What happens to a BGR image of grey levels 0 to 255; the defaults change nothing.

    A channel c becomes own c' + value V + grey g + mean m + shift, rounded and clipped to 0..255,
    where c' is c after the turn of the hue, V the largest channel of the pixel, g its grey and m
    the mean grey of the image. Then the channels change places.

    Attributes:
        hue: Added to the hue, in degrees.
        own: Factor of the channel itself.
        value: Factor of the largest channel.
        grey: Factor of the grey of the pixel.
        mean: Factor of the mean grey of the image.
        shift: Added to blue, green and red, in grey levels.
        channels: Which channel each channel of the result is.
    """

    hue: float = 0.0
    own: float = 1.0
    value: float = 0.0
    grey: float = 0.0
    mean: float = 0.0
    shift: tuple[float, ...] = (0.0, 0.0, 0.0)
    channels: tuple[int, ...] = (0, 1, 2)
