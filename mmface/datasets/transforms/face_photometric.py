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

TILE_ROWS = 32  # This many rows of a usual image fit, as floats, in the second-level cache.


class PhotometricChange(NamedTuple):
    """A change of the colours of an image. The defaults change nothing.

    Attributes:
        brightness: Added to each value, in grey levels.
        contrast: Factor of each value.
        saturation: Factor of the saturation.
        hue: Added to the hue, in degrees.
        channels: Index of the source channel for each channel of the result.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    channels: tuple[int, ...] = (0, 1, 2)

    def to_map(self) -> ColourMap:
        """Convert the change to the colour map that the data preprocessor takes."""
        own = self.contrast * self.saturation
        shift = (self.contrast * self.brightness,) * 3
        return ColourMap(self.hue, own, self.contrast - own, shift=shift, channels=self.channels)


@TRANSFORMS.register_module()
class FacePhotometric(BaseTransform):
    """Distort the colours of a uint8 image.

    This is PhotoMetricDistortion of mmdet 2.7, which SCRFD was trained with. Brightness,
    contrast, saturation, hue and the order of the channels change, each in half of the images.
    Values are not clipped between the steps (saturation may exceed 1). mmdet's transform returns
    floats outside 0 to 255. Here the result is clipped to 0..255 and rounded once at the end.
    The steps are computed together, which changes nothing else:

    Let V be the largest channel of a pixel and c a channel after the hue rotation. With HSV's
    definition S = (V - min) / V, a saturation factor s maps c to V - s (V - c). Neither this
    nor the hue depends on a positive factor or a common summand. So brightness b and contrast a,
    before or after the HSV steps, give a (V - s (V - c)) + a b. (The float version differs where
    brightness makes all channels of a pixel negative, because HSV is not defined there.) Only
    the hue rotation needs floats and HSV.

    Args:
        brightness_delta: Largest change of the brightness, in grey levels.
        contrast_range: Smallest and largest factor of the contrast.
        saturation_range: Smallest and largest factor of the saturation.
        hue_delta: Largest change of the hue, in degrees.
        on_device: Whether to only draw the change here. ``FaceDataPreprocessor`` then applies it
            to the whole batch on the device; see :mod:`.colour_place`. Default ``None``: true on
            a CUDA device or an NPU.
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
        """Draw a random change, each part of it with probability 1/2."""
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
        """Apply a change to a uint8 BGR image (h, w, 3). Return a new image."""
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
    """Rotate the hue, then change saturation and contrast, a few rows at a time."""
    height, width = img.shape[:2]
    out = np.empty((height, width, 3), np.uint8)
    rows = np.empty((min(TILE_ROWS, height), width, 3), np.float32)
    hsv = np.empty_like(rows)
    # OpenCV takes a hue above 360 modulo 360, but not a hue below 0. A factor of V is a factor of
    # all channels, whatever the saturation.
    steps = np.array([[1, 0, 0, degrees % 360], [0, saturation, 0, 0], [0, 0, gain, 0]])
    # Values below 0 after the shift are only possible in these cases.
    lowest = np.full_like(rows, -shift) if saturation > 1 or shift < 0 else None
    for start in range(0, height, TILE_ROWS):
        part = img[start : start + TILE_ROWS]
        count = len(part)
        np.copyto(rows[:count], part)
        cv2.cvtColor(rows[:count], cv2.COLOR_BGR2HSV, dst=hsv[:count])
        cv2.transform(hsv[:count], steps, dst=hsv[:count])
        cv2.cvtColor(hsv[:count], cv2.COLOR_HSV2BGR, dst=rows[:count])
        turned = rows[:count]
        if lowest is not None:
            cv2.max(turned, lowest[:count], dst=turned)
        # Four times faster than addWeighted, and cv2.add is slower still. It takes the absolute
        # value, hence the maximum before.
        cv2.convertScaleAbs(turned, out[start : start + count], 1, shift)
    return out
