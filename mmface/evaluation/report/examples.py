# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Choose the images, false finds and faces that the report shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.report.study import DetectorStudy, Study


@dataclass(frozen=True)
class Examples:
    """What the report shows."""

    images: dict[str, list[int]]
    """By detector: images with the most errors at the threshold of the best F1, worst first."""
    false_finds: dict[str, list[int]]
    """By detector: the most confident detections on no face, as indices of detections."""
    faces: list[int]
    """Faces that a detector misses at its threshold of the best F1, largest first."""


def choose(study: Study, count: int) -> Examples:
    """Choose examples.

    Args:
        study: The detectors.
        count: Number of images and false finds for each detector, and of faces.
    """
    images, false_finds = {}, {}
    chosen: set[int] = set()
    found = {name: found_faces(own, study.main) for name, own in study.detectors.items()}
    heights = study.gt.boxes[:, 3]
    for name, own in study.detectors.items():
        errors = _errors_by_image(study, own, found[name])
        worst = np.argsort(-errors, kind='stable')[:count]
        images[name] = worst[errors[worst] > 0].tolist()
        free = np.flatnonzero(own.matched.unmatched)
        order = np.argsort(-own.matched.scores[free], kind='stable')
        false_finds[name] = free[order[:count]].tolist()
        chosen |= set(_largest(study, ~found[name], heights, count))
    names = list(study.detectors)
    for first in names:  # faces that only one of two finds
        for second in names:
            alone = found[first] & ~found[second]
            chosen |= set(_largest(study, alone, heights, count // 2))
    faces = np.array(sorted(chosen), np.int64)
    ordered = faces[np.argsort(-heights[faces], kind='stable')] if len(faces) else faces
    return Examples(images, false_finds, ordered.tolist())


def found_faces(own: DetectorStudy, subset: str) -> NDArray[np.bool_]:
    """Return which faces are found at the threshold of the best F1, shape (faces,)."""
    return first_bins(own) <= own.operation[subset].best_f1


def first_bins(own: DetectorStudy) -> NDArray[np.int64]:
    """Return the index of the first threshold at which each face is found, 1000 for never."""
    matched = own.matched
    bins = np.full(len(matched.gt.boxes), 1000, np.int64)
    first = np.flatnonzero(matched.first)
    bins[matched.face[first]] = matched.bins[first]
    return bins


def _largest(study: Study, faces: NDArray, heights: NDArray, count: int) -> list[int]:
    own = np.flatnonzero(faces & study.gt.keep[study.main])
    return own[np.argsort(-heights[own], kind='stable')[:count]].tolist()


def _errors_by_image(
    study: Study, own: DetectorStudy, found: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Count missed faces and false finds of each image."""
    matched, gt = own.matched, study.gt
    images = len(gt.names)
    image_of_face = np.repeat(np.arange(images), np.diff(gt.splits))
    missed = image_of_face[gt.keep[study.main] & ~found]
    false = matched.unmatched & (matched.bins <= own.operation[study.main].best_f1)
    return np.bincount(missed, minlength=images) + np.bincount(
        matched.image[false], minlength=images
    )
