# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Cut faces out of images, and turn them upright for recognition. Does not need torch."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

#: Where the five points of an upright face lie in an image of 112x112: left eye, right eye, nose,
#: left and right mouth corner, x and y. Source: ArcFace, insightface/utils/face_align.py.
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    np.float32,
)
SIDE = 112
#: Sides of the other layout of the template: 8 pixels of 128 more on the left and right.
WIDE_SIDE = 128
WIDE_OFFSET = 8.0
#: Largest share of the template's variance that a similarity may leave unexplained. At most 0.58
#: was seen on 517 detections of WIDER FACE, 0.39 are left of an exact profile, whose points lie on
#: a line, and about 0.95 of a mirrored frontal face.
MAX_RESIDUAL = 0.6
#: Lowest value of the product of the lines eye to eye and mouth corner to mouth corner, relative to
#: the variance of the points. It is 1.8 on frontal faces, 0 on profiles (lowest seen: -0.002), and
#: negative if either pair is exchanged.
MIN_PARALLEL = -0.05
#: Least root mean square distance of the points from their centre, relative to the root of the
#: area of the box. The same detections have 0.20 to 0.30.
MIN_SPREAD = 0.05


def template(size: int) -> NDArray[np.float32]:
    """Return the template (5, 2) for an image of ``size`` x ``size`` pixels.

    Raises:
        ValueError: The size is not a positive multiple of 112 or 128.
    """
    if size < 1 or (size % SIDE and size % WIDE_SIDE):
        raise ValueError(
            f'size {size}: expected a multiple of {SIDE} or {WIDE_SIDE}, the sizes that face '
            'recognition networks take'
        )
    if size % SIDE == 0:
        return TEMPLATE * (size / SIDE)
    points = TEMPLATE * (size / WIDE_SIDE)
    points[:, 0] += WIDE_OFFSET * (size / WIDE_SIDE)
    return points


def similarity(
    source: NDArray[np.float32], target: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    """Fit a rotation, scale and shift that moves points to other points with least squares.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", PAMI 1991, in the order of operations of scikit-image, so that the result has the
    same bits.

    Args:
        source: (n, 2) points, not all equal.
        target: (n, 2) where they should be.

    Returns:
        The matrix (2, 3), and the share of the target's variance that is left as distance.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred, wanted = source - source_mean, target - target_mean
    covariance = wanted.T @ centred / len(source)
    signs = np.ones(2)
    if np.linalg.det(covariance) < 0:
        signs[1] = -1
    u, singular, v = np.linalg.svd(covariance)
    if singular[1] <= singular[0] * 2 * np.finfo(float).eps:  # the points lie on a line
        signs[1] = 1 if np.linalg.det(u) * np.linalg.det(v) > 0 else -1
        rotation = u @ np.diag(signs) @ v
        signs[1] = 1
    else:
        rotation = u @ np.diag(signs) @ v
    variance = centred.var(axis=0).sum()
    scale = 1.0 / variance * (singular @ signs)
    matrix = np.empty((2, 3))
    matrix[:, 2] = target_mean - scale * (rotation @ source_mean)
    matrix[:, :2] = rotation * scale
    explained = float(singular @ signs) ** 2 / (variance * wanted.var(axis=0).sum())
    return matrix, 1 - float(explained)


def align_face(
    image: NDArray[np.uint8],
    bbox: NDArray[np.float32],
    keypoints: NDArray[np.float32] | None,
    size: int = SIDE,
) -> NDArray[np.uint8]:
    """Turn and scale a face to the ArcFace template, with the pixels of insightface's norm_crop.

    Pixels outside of the image are black.

    Args:
        image: (H, W, 3) uint8.
        bbox: (4,) x1, y1, x2, y2 in pixels of ``image``.
        keypoints: (5, 2) left eye, right eye, nose, left and right mouth corner.
        size: Side of the result in pixels, a multiple of 112 or 128.

    Returns:
        (size, size, 3) uint8.

    Raises:
        ValueError: The size is not supported, the face does not have five points, or they do not
            look like a face: they are not finite, all at one place, mirrored or exchanged.
    """
    target = template(size)
    if keypoints is None or keypoints.shape != (5, 2):
        found = 'none' if keypoints is None else f'shape {keypoints.shape}'
        raise ValueError(
            f'alignment needs five keypoints, found {found}: use a model that has them'
        )
    points = np.asarray(keypoints, np.float32)
    if not np.isfinite(points).all():
        raise ValueError('keypoints that are not finite cannot be aligned')
    side = float(np.sqrt(max(bbox[2] - bbox[0], 0) * max(bbox[3] - bbox[1], 0)))
    spread = float(np.sqrt(points.var(axis=0).sum()))
    if spread <= MIN_SPREAD * side or spread == 0:
        raise ValueError(
            f'keypoints within {spread:.2g} pixels of each other, in a box of about {side:.0f} '
            'pixels, cannot be aligned'
        )
    matrix, residual = similarity(points, target)
    parallel = float((points[1] - points[0]) @ (points[4] - points[3])) / spread**2
    if residual > MAX_RESIDUAL or parallel < MIN_PARALLEL:
        raise ValueError(
            'keypoints that are mirrored or exchanged cannot be aligned: expected left eye, right '
            'eye, nose, left and right mouth corner, with left and right as seen in the image'
        )
    aligned = cv2.warpAffine(image, matrix, (size, size), borderValue=0.0)
    return np.asarray(aligned, np.uint8)


def crop_face(
    image: NDArray[np.uint8], bbox: NDArray[np.float32], margin: float = 0.0
) -> NDArray[np.uint8]:
    """Cut the box of a face out of an image.

    Args:
        image: (H, W, 3) uint8.
        bbox: (4,) x1, y1, x2, y2 in pixels of ``image``.
        margin: Extra border on each side, relative to the width and height of the box.

    Returns:
        (h, w, 3) uint8, a copy: all pixels that the box with its border touches, without those
        outside of the image.

    Raises:
        ValueError: The box lies outside of the image, or the margin is negative.
    """
    if not margin >= 0:
        raise ValueError(f'margin {margin}: expected 0 or more, relative to the box')
    x1, y1, x2, y2 = (float(value) for value in bbox)
    if not np.isfinite((x1, y1, x2, y2)).all():
        raise ValueError(f'box {x1}, {y1}, {x2}, {y2}: expected finite numbers')
    grow_x, grow_y = margin * (x2 - x1), margin * (y2 - y1)
    height, width = image.shape[:2]
    left, top = max(int(np.floor(x1 - grow_x)), 0), max(int(np.floor(y1 - grow_y)), 0)
    right = min(int(np.ceil(x2 + grow_x)), width)
    bottom = min(int(np.ceil(y2 + grow_y)), height)
    if right <= left or bottom <= top:
        raise ValueError(
            f'box {x1:.0f}, {y1:.0f}, {x2:.0f}, {y2:.0f} lies outside of the image of '
            f'{width}x{height} pixels'
        )
    return image[top:bottom, left:right].copy()
