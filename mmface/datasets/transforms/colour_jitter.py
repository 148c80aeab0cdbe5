# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterNet's random brightness, contrast, saturation and lighting."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from numpy.typing import NDArray

STEPS = ('brightness', 'contrast', 'saturation')
# Principal components of the colours of COCO pictures, rows blue, green, red, in units of the
# full range of grey levels: CenterNet, datasets/dataset/coco_hp.py.
EIGENVALUES = np.array([0.2141788, 0.01817699, 0.00341571])
EIGENVECTORS = np.array(
    [
        [-0.58752847, -0.69563484, 0.41340352],
        [-0.5832747, 0.00994535, -0.81221408],
        [-0.56089297, 0.71832671, 0.41158938],
    ]
)
GREY_WEIGHTS = np.array([0.114, 0.587, 0.299])  # blue, green, red; those of OpenCV


class ColourChange(NamedTuple):
    """What happens to a picture; the defaults change nothing.

    Attributes:
        brightness: Factor of every value.
        contrast: Factor of the distance from the mean grey of the picture.
        saturation: Factor of the distance from the grey of the pixel.
        order: In which the three are done; each of ``STEPS`` once.
        lighting: Added to blue, green and red, in grey levels.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    order: tuple[str, ...] = STEPS
    lighting: tuple[float, float, float] = (0.0, 0.0, 0.0)


@TRANSFORMS.register_module()
class ColourJitter(BaseTransform):
    """Distort the colours of a uint8 picture.

    Same as CenterNet's and CenterFace's ``color_aug``: brightness, contrast and saturation in
    random order, each by a factor in [1 - ``strength``, 1 + ``strength``], then a random
    shift along the principal components of the colours. Grey and its mean are those of the
    picture as it came, in all steps. There pictures are floats that may leave their range; here
    the result is clipped to 0..255 and rounded, once, at the end (within one grey level).

    Every step is linear in the colours of a pixel, so all of them together are one 3 x 4 matrix,
    applied in one pass over the bytes.

    MindSpore's version seeds its generator anew for every picture, so all of them get
    the same factors; that is left out.

    Args:
        strength: Largest change of each of the three factors.
        lighting_std: Standard deviation of the three weights of the principal components.
    """

    def __init__(self, strength: float = 0.4, lighting_std: float = 0.1) -> None:
        self.strength = strength
        self.lighting_std = lighting_std

    def transform(self, results: dict) -> dict:
        """Distort the picture."""
        results['img'] = self.apply(results['img'], self.draw())
        return results

    def draw(self) -> ColourChange:
        """Draw a change."""
        order = tuple(STEPS[step] for step in np.random.permutation(len(STEPS)))
        brightness, contrast, saturation = np.random.uniform(
            1 - self.strength, 1 + self.strength, len(STEPS)
        ).tolist()
        weights = np.random.normal(scale=self.lighting_std, size=3)
        blue, green, red = (255 * EIGENVECTORS @ (EIGENVALUES * weights)).tolist()
        return ColourChange(brightness, contrast, saturation, order, (blue, green, red))

    @staticmethod
    def apply(img: NDArray[np.uint8], change: ColourChange) -> NDArray[np.uint8]:
        """Change a uint8 BGR picture (h, w, 3); gives a new one."""
        # The result of the steps so far is own * pixel + grey * (grey of it) + shift.
        own, grey, shift = 1.0, 0.0, 0.0
        for step in change.order:
            factor = getattr(change, step)
            own, grey, shift = factor * own, factor * grey, factor * shift
            if step == 'contrast':
                shift += (1 - factor) * cv2.mean(cv2.cvtColor(img, cv2.COLOR_BGR2GRAY))[0]
            elif step == 'saturation':
                grey += 1 - factor
        matrix = own * np.eye(3) + grey * GREY_WEIGHTS
        return cv2.transform(img, np.column_stack([matrix, shift + np.array(change.lighting)]))
