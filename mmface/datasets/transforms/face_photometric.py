# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Random brightness, contrast, saturation, hue and channel order."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from numpy.typing import NDArray

from mmface.datasets.transforms.colour_place import defer_colours, use_device_colours
from mmface.utils.colour_map import ColourMap

TILE_ROWS = 32  # Floats of so many rows of a usual image stay in the second-level cache.


class PhotometricChange(NamedTuple):
    """What happens to an image; the defaults change nothing.

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

    def to_map(self) -> ColourMap:
        """Give the same change as the data preprocessor takes it."""
        own = self.contrast * self.saturation
        shift = (self.contrast * self.brightness,) * 3
        return ColourMap(self.hue, own, self.contrast - own, shift=shift, channels=self.channels)


@TRANSFORMS.register_module()
class FacePhotometric(BaseTransform):
    """Distort the colours of a uint8 image.

    Same as PhotoMetricDistortion of mmdet 2.7, which SCRFD was trained with: brightness,
    contrast, saturation, hue and a new order of the channels, each in half of the images,
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
        on_device: Whether only to draw the change here and leave it to ``FaceDataPreprocessor``
            to apply it, for the whole batch on the device; see :mod:`.colour_place`. Default
            ``None``: on a CUDA device or an NPU.
    """

    def __init__(
        self,
        brightness_delta: float = 32,
        contrast_range: tuple[float, float] = (0.5, 1.5),
        saturation_range: tuple[float, float] = (0.5, 1.5),
        hue_delta: float = 18,
        on_device: bool | None = None,
    ) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_range = contrast_range
        self.saturation_range = saturation_range
        self.hue_delta = hue_delta
        self.on_device = use_device_colours(on_device)

    def transform(self, results: dict) -> dict:
        """Distort the image, or set ``colour_map`` for the data preprocessor."""
        change = self.draw()
        if self.on_device:
            defer_colours(results, change.to_map())
        else:
            results['img'] = self.apply(results['img'], change)
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
        """Change a uint8 BGR image (h, w, 3); gives a new one."""
        gain, shift = change.contrast, change.contrast * change.brightness
        if change.hue:
            img = _in_hsv(img, change.hue, change.saturation, gain, shift)
        elif change.saturation == 1:
            img = cv2.addWeighted(img, gain, img, 0, shift)
        else:
            planes = cv2.split(img)
            value = cv2.max(cv2.max(planes[0], planes[1]), planes[2])
            weight = gain * change.saturation
            for plane in planes:
                cv2.addWeighted(plane, weight, value, gain - weight, shift, dst=plane)
            return cv2.merge([planes[channel] for channel in change.channels])
        if change.channels != (0, 1, 2):
            planes = cv2.split(img)
            img = cv2.merge([planes[channel] for channel in change.channels])
        return img


def _in_hsv(
    img: NDArray[np.uint8], degrees: float, saturation: float, gain: float, shift: float
) -> NDArray[np.uint8]:
    """Turn the hue, change the saturation, then the contrast; a few rows at a time."""
    height, width = img.shape[:2]
    out = np.empty((height, width, 3), np.uint8)
    rows = np.empty((min(TILE_ROWS, height), width, 3), np.float32)
    hsv = np.empty_like(rows)
    # OpenCV takes a hue above 360 modulo 360, but not one below 0. A gain of V is one of all
    # channels, whatever the saturation.
    steps = np.array([[1, 0, 0, degrees % 360], [0, saturation, 0, 0], [0, 0, gain, 0]])
    for start in range(0, height, TILE_ROWS):
        part = img[start : start + TILE_ROWS]
        count = len(part)
        np.copyto(rows[:count], part)
        cv2.cvtColor(rows[:count], cv2.COLOR_BGR2HSV, dst=hsv[:count])
        cv2.transform(hsv[:count], steps, dst=hsv[:count])
        cv2.cvtColor(hsv[:count], cv2.COLOR_HSV2BGR, dst=rows[:count])
        # cv2.add takes forty times as long for a summand that is not whole.
        done, turned = out[start : start + count], rows[:count]
        cv2.addWeighted(turned, 1, turned, 0, shift, dst=done, dtype=cv2.CV_8U)
    return out
