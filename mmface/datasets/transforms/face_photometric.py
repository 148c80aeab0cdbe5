# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Random brightness, contrast, saturation, hue and channel order."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from numpy.typing import NDArray


class PhotometricChange(NamedTuple):
    """What happens to a picture; the defaults change nothing.

    Attributes:
        brightness: Added to each value, in grey levels.
        contrast: Factor of each value.
        saturation: Factor of the saturation.
        hue: Added to the hue, in degrees.
        channels: Which channel each channel of the result is.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    channels: tuple[int, ...] = (0, 1, 2)


@TRANSFORMS.register_module()
class FacePhotometric(BaseTransform):
    """Distort the colours of a uint8 picture.

    Same as PhotoMetricDistortion of mmdet 2.7, which SCRFD was trained with: brightness,
    contrast, saturation, hue and a new order of the channels, each in half of the pictures,
    with the range of values open from step to step (saturation may exceed 1). That one works
    on floats, and what leaves 0 to 255 stays so; here the result is clipped to 0..255 and
    rounded, once, at the end. The steps are done together, which changes nothing else:

    With V the largest channel of a pixel, c a channel after the turn of the hue, and HSV's
    definition S = (V - min) / V, a saturation factor s moves c to V - s (V - c), and neither
    this nor the hue depends on a positive factor or a common summand. So brightness b and
    contrast a, in whichever order with the HSV steps, give a (V - s (V - c)) + a b. (The float
    version differs where brightness makes all channels of a pixel negative, because HSV has
    no meaning there.) Only the turn of the hue needs floats and HSV.

    Args:
        brightness_delta: Brightness changes by up to this, in grey levels.
        contrast_range: Smallest and largest factor of the contrast.
        saturation_range: Smallest and largest factor of the saturation.
        hue_delta: Hue changes by up to this, in degrees.
    """

    def __init__(
        self,
        brightness_delta: float = 32,
        contrast_range: tuple[float, float] = (0.5, 1.5),
        saturation_range: tuple[float, float] = (0.5, 1.5),
        hue_delta: float = 18,
    ) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_range = contrast_range
        self.saturation_range = saturation_range
        self.hue_delta = hue_delta

    def transform(self, results: dict) -> dict:
        """Distort the picture."""
        results['img'] = self.apply(results['img'], self.draw())
        return results

    def draw(self) -> PhotometricChange:
        """Draw a change; each part of it with probability 1/2."""
        change = PhotometricChange()
        if np.random.randint(2):
            delta = np.random.uniform(-self.brightness_delta, self.brightness_delta)
            change = change._replace(brightness=delta)
        if np.random.randint(2):
            change = change._replace(contrast=np.random.uniform(*self.contrast_range))
        if np.random.randint(2):
            change = change._replace(saturation=np.random.uniform(*self.saturation_range))
        if np.random.randint(2):
            change = change._replace(hue=np.random.uniform(-self.hue_delta, self.hue_delta))
        if np.random.randint(2):
            change = change._replace(channels=tuple(np.random.permutation(3).tolist()))
        return change

    @staticmethod
    def apply(img: NDArray[np.uint8], change: PhotometricChange) -> NDArray[np.uint8]:
        """Change a uint8 BGR picture (h, w, 3); gives a new one."""
        gain, shift = change.contrast, change.contrast * change.brightness
        if change.hue == 0 and change.saturation == 1:
            table = np.arange(256) * gain + shift
            img = cv2.LUT(img, np.clip(np.rint(table), 0, 255).astype(np.uint8))
        else:
            turned = _turn_hue(img, change.hue) if change.hue else img
            blue, green, red = cv2.split(img)
            value = cv2.max(cv2.max(blue, green), red)
            value = cv2.merge([value, value, value]).astype(turned.dtype, copy=False)
            weight = gain * change.saturation
            img = cv2.addWeighted(turned, weight, value, gain - weight, shift, dtype=cv2.CV_8U)
        if change.channels != (0, 1, 2):
            planes = cv2.split(img)
            img = cv2.merge([planes[channel] for channel in change.channels])
        return img


def _turn_hue(img: NDArray[np.uint8], degrees: float) -> NDArray[np.float32]:
    hsv = cv2.cvtColor(img.astype(np.float32), cv2.COLOR_BGR2HSV)
    # OpenCV takes a hue above 360 modulo 360, but not one below 0.
    hsv[..., 0] += degrees % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
