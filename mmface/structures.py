# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The structure of a detected face, and transforms of keypoints.

Keypoints are arrays (N, K, 3) of x, y, weight in pixels. Weight 0 marks a missing point.
Transforms also move missing points, so their x and y have no meaning after the first step:
check the weight before you use a point. This module needs only numpy, and OpenCV to cut out faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class KeypointScheme:
    """What the K keypoints of a face are.

    Attributes:
        names: K names, or none if the labels do not name them.
        flip_indices: K source indices after a horizontal flip: left and right are swapped.

    Raises:
        ValueError: ``flip_indices`` is not a permutation of K indices that is its own inverse, or
            there is another number of names.
    """

    names: tuple[str, ...] = ()
    flip_indices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check both fields."""
        flip, count = self.flip_indices, len(self.flip_indices)
        if sorted(flip) != list(range(count)) or any(flip[flip[k]] != k for k in range(count)):
            raise ValueError(
                f'flip_indices {flip}: expected each index from 0 once, and pairs that point to '
                'each other'
            )
        if self.names and len(self.names) != count:
            raise ValueError(f'{len(self.names)} names of keypoints, but {count} flip_indices')

    def __len__(self) -> int:
        """Return K."""
        return len(self.flip_indices)


#: The five points of WIDER FACE's labels: SCRFD's, RetinaFace's and CenterFace's. Left and right
#: are as seen in the image.
FIVE_KEYPOINTS = KeypointScheme(
    ('left_eye', 'right_eye', 'nose', 'left_mouth', 'right_mouth'), (1, 0, 2, 4, 3)
)
FLIP_INDICES_5 = FIVE_KEYPOINTS.flip_indices
"""Source index of each point after a horizontal flip: eyes and mouth corners are swapped."""


@dataclass
class Face:
    """A detected face, in pixels of the input image.

    Attributes:
        bbox: (4,) x1, y1, x2, y2, float32. May extend beyond the image.
        score: Confidence, 0 to 1.
        keypoints: (K, 2) x, y, float32, or ``None`` if the model has no keypoints. Five keypoints
            are left eye, right eye, nose, left and right mouth corner, with left and right as
            seen in the image.
        label: Index of the class, 0 for a model of one class.
        class_name: Name of the class, ``None`` for a model of one class.
    """

    bbox: NDArray[np.float32]
    score: float
    keypoints: NDArray[np.float32] | None = None
    label: int = 0
    class_name: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON: pixels to 1/100, the score to 1/10,000.

        A face of a model of several classes also has the name of its class.
        """
        return {
            **({} if self.class_name is None else {'class': self.class_name}),
            'bbox': [round(float(v), 2) for v in self.bbox],
            'score': round(float(self.score), 4),
            'keypoints': None
            if self.keypoints is None
            else [[round(float(v), 2) for v in point] for point in self.keypoints],
        }

    def crop(self, image: NDArray[np.uint8], margin: float = 0.0) -> NDArray[np.uint8]:
        """Cut the face out of its image; see ``mmface.alignment.crop_face``."""
        from mmface.alignment import crop_face

        return crop_face(image, self.bbox, margin)

    def align(self, image: NDArray[np.uint8], size: int = 112) -> NDArray[np.uint8]:
        """Turn the face upright for recognition; see ``mmface.alignment.align_face``."""
        from mmface.alignment import align_face

        return align_face(image, self.bbox, self.keypoints, size)


def flip_bboxes(bboxes: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Flip boxes (N, 4) x1, y1, x2, y2 in an image of ``width``: x becomes width - x."""
    flipped = bboxes.copy()
    flipped[:, [2, 0]] = width - bboxes[:, [0, 2]]
    return flipped


def flip_keypoints(
    keypoints: NDArray[np.float32], width: float, flip_indices: Sequence[int] = FLIP_INDICES_5
) -> NDArray[np.float32]:
    """Flip keypoints (N, K, 3) in an image of ``width`` and swap left and right.

    Each weight stays with its point.

    Args:
        keypoints: x, y, weight.
        width: Width of the image; x becomes width - x.
        flip_indices: For each of the K points, its source index before the flip.

    Raises:
        ValueError: ``flip_indices`` is not a permutation of K indices.
    """
    if sorted(flip_indices) != list(range(keypoints.shape[1])):
        raise ValueError(
            f'flip_indices {tuple(flip_indices)} do not fit {keypoints.shape[1]} keypoints: '
            'expected each index from 0 once'
        )
    flipped = keypoints[:, list(flip_indices)]
    flipped[..., 0] = width - flipped[..., 0]
    return flipped


def scale_keypoints(
    keypoints: NDArray[np.float32], scale: tuple[float, float]
) -> NDArray[np.float32]:
    """Multiply x and y of keypoints (N, K, 3) by ``scale``, (w_scale, h_scale)."""
    return keypoints * np.array([*scale, 1], dtype=np.float32)


def translate_keypoints(
    keypoints: NDArray[np.float32], offset: tuple[float, float]
) -> NDArray[np.float32]:
    """Add ``offset``, (x, y), to keypoints (N, K, 3)."""
    return keypoints + np.array([*offset, 0], dtype=np.float32)


def clip_points(
    points: NDArray[np.float32], low: tuple[float, float], high: tuple[float, float]
) -> NDArray[np.float32]:
    """Clip points (..., 2) to the rectangle from ``low`` to ``high``, both (x, y).

    To clip boxes, call ``clip_points(bboxes.reshape(-1, 2, 2), ...)``.
    """
    return np.clip(points, np.array(low, np.float32), np.array(high, np.float32))
