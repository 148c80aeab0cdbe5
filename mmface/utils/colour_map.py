# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A colour change of an image that can be applied later, on the device."""

from __future__ import annotations

from typing import NamedTuple


class ColourMap(NamedTuple):
    """A colour change of a BGR image with grey levels 0 to 255. The defaults change nothing.

    A channel c becomes own c' + value V + grey g + mean m + shift, rounded and clipped to 0..255.
    Here c' is c after the hue rotation, V the largest channel of the pixel, g its grey and m
    the mean grey of the image. Then the channels are permuted.

    Attributes:
        hue: Added to the hue, in degrees.
        own: Factor of the channel itself.
        value: Factor of the largest channel.
        grey: Factor of the grey of the pixel.
        mean: Factor of the mean grey of the image.
        shift: Added to blue, green and red, in grey levels.
        channels: Index of the source channel for each channel of the result.
    """

    hue: float = 0.0
    own: float = 1.0
    value: float = 0.0
    grey: float = 0.0
    mean: float = 0.0
    shift: tuple[float, ...] = (0.0, 0.0, 0.0)
    channels: tuple[int, ...] = (0, 1, 2)
