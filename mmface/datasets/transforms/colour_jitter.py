# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterNet's random brightness, contrast, saturation and lighting."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from numpy.typing import NDArray

from mmface.datasets.transforms.colour_place import defer_colours, use_device_colours
from mmface.utils.colour_map import ColourMap

STEPS = ('brightness', 'contrast', 'saturation')
# Principal components of the colours of COCO images; rows are blue, green, red. The unit is the
# full range of grey levels. Source: CenterNet, datasets/dataset/coco_hp.py.
EIGENVALUES = np.array([0.2141788, 0.01817699, 0.00341571])
EIGENVECTORS = np.array(
    [
        [-0.58752847, -0.69563484, 0.41340352],
        [-0.5832747, 0.00994535, -0.81221408],
        [-0.56089297, 0.71832671, 0.41158938],
    ]
)
GREY_WEIGHTS = np.array([0.114, 0.587, 0.299])  # blue, green, red, as in OpenCV


class ColourChange(NamedTuple):
    """A change of the colours of an image. The defaults change nothing.

    Attributes:
        brightness: Factor of every value.
        contrast: Factor of the distance from the mean grey of the image.
        saturation: Factor of the distance from the grey of the pixel.
        order: Order of these three steps; each of ``STEPS`` once.
        lighting: Added to blue, green and red, in grey levels.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    order: tuple[str, ...] = STEPS
    lighting: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def to_map(self) -> ColourMap:
        """Combine all steps into one colour map."""
        # After each step the result is own * pixel + grey * (its grey) + mean * (mean grey).
        own, grey, mean = 1.0, 0.0, 0.0
        for step in self.order:
            factor = getattr(self, step)
            own, grey, mean = factor * own, factor * grey, factor * mean
            if step == 'contrast':
                mean += 1 - factor
            elif step == 'saturation':
                grey += 1 - factor
        return ColourMap(own=own, grey=grey, mean=mean, shift=self.lighting)


@TRANSFORMS.register_module()
class ColourJitter(BaseTransform):
    """Distort the colours of a uint8 image.

    This is ``color_aug`` of CenterNet and CenterFace. Brightness, contrast and saturation change
    in random order, each by a factor in [1 - ``strength``, 1 + ``strength``]. Then a random
    shift along the principal components of the colours is added. All steps use the grey and the
    mean grey of the original image. In the references, images are floats that may leave their
    range. Here the result is clipped to 0..255 and rounded once at the end (within one grey
    level).

    Every step is linear in the colours of a pixel. So all steps together are one 3 x 4 matrix,
    applied in one pass over the bytes.

    MindSpore's version seeds its generator again for every image, so all images get the same
    factors. This is not reproduced here.

    Args:
        strength: Largest change of each of the three factors.
        lighting_std: Standard deviation of the three weights of the principal components.
        on_device: Whether to only draw the change here. ``FaceDataPreprocessor`` then applies it
            to the whole batch on the device; see :mod:`.colour_place`. Default ``None``: true on
            a CUDA device or an NPU.
    """

    def __init__(
        self, strength: float = 0.4, lighting_std: float = 0.1, on_device: bool | None = None
    ) -> None:
        self.strength = strength
        self.lighting_std = lighting_std
        self.on_device = use_device_colours(on_device)

    def transform(self, results: dict) -> dict:
        """Distort the image, or set ``colour_map`` for the data preprocessor."""
        change = self.draw()
        if self.on_device:
            defer_colours(results, change.to_map())
        else:
            results['img'] = self.apply(results['img'], change)
        return results

    def draw(self) -> ColourChange:
        """Draw a random change."""
        order = tuple(STEPS[step] for step in np.random.permutation(len(STEPS)))
        brightness, contrast, saturation = np.random.uniform(
            1 - self.strength, 1 + self.strength, len(STEPS)
        ).tolist()
        weights = np.random.normal(scale=self.lighting_std, size=3)
        blue, green, red = (255 * EIGENVECTORS @ (EIGENVALUES * weights)).tolist()
        return ColourChange(brightness, contrast, saturation, order, (blue, green, red))

    @staticmethod
    def apply(img: NDArray[np.uint8], change: ColourChange) -> NDArray[np.uint8]:
        """Apply a change to a uint8 BGR image (h, w, 3). Return a new image."""
        colours = change.to_map()
        mean = cv2.mean(cv2.cvtColor(img, cv2.COLOR_BGR2GRAY))[0] if colours.mean else 0.0
        matrix = colours.own * np.eye(3) + colours.grey * GREY_WEIGHTS
        shift = colours.mean * mean + np.array(colours.shift)
        return cv2.transform(img, np.column_stack([matrix, shift]))
