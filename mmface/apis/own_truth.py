# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Ground truth of an own data set, in any label format, for the evaluation of WIDER FACE's kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.datasets.annotations import read_annotations
from mmface.datasets.face_annotation import FaceAnnotation
from mmface.evaluation.prediction_source import Category
from mmface.evaluation.wider_gt import WiderGroundTruth
from mmface.utils.image_names import image_key

#: Areas in square pixels at which COCO's sizes medium and large begin.
MEDIUM, LARGE = 32**2, 96**2


def read_own_truth(
    path: Path, images: Path | None = None
) -> list[tuple[Category | None, WiderGroundTruth]]:
    """Read labels, one ground truth for each class.

    The subsets are COCO's sizes (``small`` below 32 x 32 pixels, ``large`` from 96 x 96 on) and
    ``all``. As in WIDER FACE, objects outside of a subset are ignored, and so are those that the
    labels mark (``iscrowd``, ``ignore``): a detection that hits one counts nowhere.

    Args:
        path: Label file or folder, see ``read_annotations``.
        images: Folder of the images, for formats that need it.

    Returns:
        Class and ground truth. The class is None if there is only one, so that every detection
        counts. Classes without a box are left out.

    Raises:
        FileNotFoundError: The labels do not exist.
        ValueError: The labels cannot be read, two images have the same name but for the suffix, or
            no box counts.
    """
    labels = read_annotations(path, images=images)
    names = [image_key(image.path) for image in labels.images]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'{path}: expected distinct names of images, found {twice!r} twice')
    found: list[tuple[Category | None, WiderGroundTruth]]
    if len(labels.classes) == 1:
        found = [(None, _truth(names, labels.images, None))]
    else:
        numbers = _numbers(path)
        found = [
            (Category(name, index, numbers.get(name)), _truth(names, labels.images, index))
            for index, name in enumerate(labels.classes)
        ]
    found = [(category, gt) for category, gt in found if gt.keep['all'].any()]
    if not found:
        raise ValueError(f'{path}: expected at least one box that is not ignored, found none')
    return found


def _truth(
    names: Sequence[str], images: Sequence[FaceAnnotation], label: int | None
) -> WiderGroundTruth:
    own = [image if label is None else image.where(image.labels == label) for image in images]
    corners = np.concatenate([np.empty((0, 4)), *(image.bboxes for image in own)])
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    counts = ~np.concatenate([np.empty(0, bool), *(image.ignore for image in own)])
    area = boxes[:, 2] * boxes[:, 3]
    keep: dict[str, NDArray[np.bool_]] = {
        'small': counts & (area < MEDIUM),
        'medium': counts & (area >= MEDIUM) & (area < LARGE),
        'large': counts & (area >= LARGE),
        'all': counts,
    }
    splits = np.cumsum([0, *(len(image.bboxes) for image in own)])
    known = frozenset(names)
    return WiderGroundTruth(tuple(names), boxes, splits, keep, known, _keypoints(own))


def _keypoints(images: Sequence[FaceAnnotation]) -> NDArray[np.float64] | None:
    """Return the keypoints of all faces, None if none is labelled."""
    points = [image.keypoints for image in images if len(image.keypoints)]
    if not any((own[..., 2] > 0).any() for own in points):
        return None
    return np.concatenate(points).astype(np.float64)


def _numbers(path: Path) -> dict[str, int]:
    """Return the ``id`` of each category of a COCO file, nothing for other formats."""
    if path.suffix.lower() != '.json':
        return {}
    content: Any = json.loads(path.read_bytes())  # read_annotations has checked it
    if not isinstance(content, dict):
        return {}
    return {str(own['name']): own['id'] for own in content.get('categories', [])}
