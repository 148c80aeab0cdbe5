# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Normalised mean error of keypoints on detected faces, in pure numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.wider_match import match_image

NORMALIZERS = ('interocular', 'box')

#: The first two of the five keypoints are the eyes.
EYES_5 = (0, 1)


def keypoint_errors(
    rows: NDArray[np.floating],
    keypoints: NDArray[np.floating],
    gt_boxes: NDArray[np.floating],
    gt_keypoints: NDArray[np.floating],
    iou_thr: float = 0.5,
    normalizer: str = 'interocular',
    eyes: tuple[int, int] = EYES_5,
) -> NDArray[np.float64]:
    """Return the normalised keypoint error of each labelled face of one image.

    A face is compared with the highest-scoring detection that hits it. The matching is that of
    the WIDER FACE metric. The error is the mean distance over the labelled points, divided by a
    size. The size is the distance of the labelled eyes (``interocular``, the usual definition)
    or the square root of the area of the labelled box (``box``, also meaningful for profile
    faces).

    Args:
        rows: Shape (n, 5), finite: x, y, w, h in pixels and score.
        keypoints: Shape (n, K, >= 2): x, y in pixels of the detections.
        gt_boxes: Shape (g, 4): x, y, w, h in pixels of all faces.
        gt_keypoints: Shape (g, K, 3): x, y in pixels and weight; weight 0 means unlabelled.
        iou_thr: Minimum IoU of a hit.
        normalizer: ``interocular`` or ``box``.
        eyes: Indices of the two keypoints whose distance is ``interocular``.

    Returns:
        An error for every face that can be measured. Such a face has at least one labelled point
        and a size above 0 (with ``interocular``, both eyes labelled). The error is NaN if no
        detection hits the face. Faces that cannot be measured have no entry.

    Raises:
        ValueError: The normaliser is unknown, the eyes do not exist, or the numbers of predicted
            and labelled keypoints differ.
    """
    gt_keypoints = np.asarray(gt_keypoints, np.float64)
    size = face_sizes(gt_boxes, gt_keypoints, normalizer, eyes)
    best: NDArray[np.float64] = np.full((*gt_keypoints.shape[:2], 2), np.nan)
    if len(rows) and len(gt_keypoints):
        if keypoints.shape[1] != gt_keypoints.shape[1]:
            raise ValueError(
                f'expected {gt_keypoints.shape[1]} predicted keypoints as in the labels, found '
                f'{keypoints.shape[1]}'
            )
        order = np.argsort(-rows[:, 4], kind='stable')
        hits = match_image(rows[order], gt_boxes, iou_thr).gt_index
        faces, first = np.unique(hits, return_index=True)
        faces, first = faces[faces >= 0], first[faces >= 0]
        best[faces] = np.asarray(keypoints, np.float64)[order[first], :, :2]
    return point_errors(best, gt_keypoints, size)[size > 0]


def face_sizes(
    gt_boxes: NDArray[np.floating],
    gt_keypoints: NDArray[np.floating],
    normalizer: str | None = None,
    eyes: tuple[int, int] = EYES_5,
) -> NDArray[np.float64]:
    """Return the size that the error of each face is divided by, 0 if it cannot be measured.

    Args:
        gt_boxes: Shape (g, 4): x, y, w, h in pixels.
        gt_keypoints: Shape (g, K, 3): x, y in pixels and weight.
        normalizer: ``interocular`` or ``box``; None takes ``interocular`` for five keypoints.
        eyes: See ``keypoint_errors``.

    Raises:
        ValueError: The normaliser is unknown, or the eyes do not exist.
    """
    if normalizer is None:
        normalizer = 'interocular' if gt_keypoints.shape[1] == 5 else 'box'
    if normalizer not in NORMALIZERS:
        raise ValueError(f'expected normalizer interocular or box, found {normalizer!r}')
    labelled = gt_keypoints[..., 2] > 0
    if normalizer == 'interocular':
        if max(eyes) >= gt_keypoints.shape[1] or min(eyes) < 0:
            raise ValueError(
                f'eyes {tuple(eyes)}: expected indices of two of the {gt_keypoints.shape[1]} '
                'keypoints'
            )
        left, right = eyes
        size = np.linalg.norm(gt_keypoints[:, left, :2] - gt_keypoints[:, right, :2], axis=-1)
        size[~labelled[:, list(eyes)].all(axis=1)] = 0
    else:
        size = np.sqrt(np.prod(np.maximum(np.asarray(gt_boxes, np.float64)[:, 2:], 0), axis=1))
    return np.where(labelled.any(axis=1), size, 0)


def point_errors(
    found: NDArray[np.floating], gt_keypoints: NDArray[np.floating], size: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the error of each face, shape (g,).

    Args:
        found: Shape (g, K, 2): x, y in pixels found for each face, NaN where there are none.
        gt_keypoints: Shape (g, K, 3): x, y in pixels and weight; weight 0 means unlabelled.
        size: Shape (g,), from ``face_sizes``.

    Returns:
        NaN if the face cannot be measured, or if a labelled point was not found.
    """
    labelled = gt_keypoints[..., 2] > 0
    with np.errstate(divide='ignore', invalid='ignore'):
        distance = np.linalg.norm(found - gt_keypoints[..., :2], axis=-1)
        mean = np.where(labelled, distance, 0).sum(axis=1) / labelled.sum(axis=1)
        return np.where(size > 0, mean / size, np.nan)


def mean_error(errors: NDArray[np.float64]) -> tuple[float, int]:
    """Return the mean of the errors that are no NaN, NaN if there are none, and their number."""
    measured = errors[~np.isnan(errors)]
    return (float(measured.mean()) if len(measured) else float('nan')), len(measured)
