# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Recall and AP by kinds of faces and images.

A slice of *faces* (heavy blur, 16 to 32 pixels) follows the rule of WIDER FACE for faces outside of
a subset: all other faces are ignored, so a detection that hits one of them counts neither as a find
nor as a false find. A false find belongs to no kind of face, so every such slice has the false
finds of all images. Its AP therefore falls with the share of the faces that it has: compare it
between detectors, not between slices. Recall has no such dependence.

A slice of *images* (an event, 6 to 15 faces) is evaluated as if the data set had only these images.
Its AP is that of a restricted evaluation, with the score range of the whole set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.attributes import ATTRIBUTES
from mmface.evaluation.matched import Matched
from mmface.evaluation.nme import mean_error
from mmface.evaluation.wider_ap import average_precision, count_along_scores
from mmface.evaluation.wider_gt import WiderGroundTruth

#: Face heights in pixels at which a new slice begins.
HEIGHTS = (8, 16, 32, 64, 128, 256, 512)
#: Numbers of faces of an image at which a new slice begins.
CROWDS = (1, 2, 6, 16, 51)


@dataclass(frozen=True)
class Slice:
    """A kind of faces or of images."""

    group: str
    """What the slices of one group differ in, such as ``blur``."""
    value: str
    """Which of them this is, such as ``heavy``."""
    faces: NDArray[np.bool_]
    """Shape (faces,): the faces of this kind, or of images of this kind."""
    images: NDArray[np.bool_] | None = None
    """Shape (images,): the images of this kind; None for a kind of faces."""


@dataclass(frozen=True)
class SliceResult:
    """The evaluation of a slice on one subset."""

    group: str
    value: str
    faces: int
    """Number of faces that count."""
    proposals: NDArray[np.int64]
    """Shape (1000,): number of detections that count, by threshold, highest first."""
    recalled: NDArray[np.int64]
    """Shape (1000,): number of faces found, by threshold."""
    ap: float
    """NaN without faces."""
    nme: float = float('nan')
    """Mean keypoint error of the faces that were found and can be measured; NaN without any."""
    measured: int = 0
    """Their number."""

    @property
    def recall(self) -> float:
        """The recall of all detections; NaN without faces."""
        return self.recall_at(-1)

    def recall_at(self, threshold: int) -> float:
        """Return the recall at a threshold, given by its index."""
        return float(self.recalled[threshold]) / self.faces if self.faces else float('nan')


def face_heights(gt: WiderGroundTruth) -> list[Slice]:
    """Return the slices by the height of a face in pixels."""
    return _binned('height', gt.boxes[:, 3], HEIGHTS, ' px')


def crowds(gt: WiderGroundTruth) -> list[Slice]:
    """Return the slices by the number of labelled faces of an image."""
    counts = np.diff(gt.splits)
    found = _binned('faces in the image', counts, CROWDS, '', whole=True)
    return [_of_images(gt, piece.group, piece.value, piece.faces) for piece in found]


def events(gt: WiderGroundTruth) -> list[Slice]:
    """Return the slices by event, the first part of the image's name."""
    event = np.array([name.rpartition('/')[0] for name in gt.names])
    return [_of_images(gt, 'event', value, event == value) for value in np.unique(event).tolist()]


def attribute_slices(values: Mapping[str, NDArray[np.integer]]) -> list[Slice]:
    """Return the slices by attribute; ``values`` as from ``read_attributes``."""
    found = []
    for group, meanings in ATTRIBUTES.items():
        if group not in values:
            continue
        own = values[group]
        for number in sorted({*range(len(meanings)), *np.unique(own).tolist()}):
            meaning = meanings[number] if 0 <= number < len(meanings) else str(number)
            found.append(Slice(group, meaning, own == number))
    return found


def all_slices(
    gt: WiderGroundTruth, attributes: Mapping[str, NDArray[np.integer]] | None = None
) -> list[Slice]:
    """Return all slices. Those of one group are disjoint and cover all faces."""
    return [*attribute_slices(attributes or {}), *face_heights(gt), *crowds(gt), *events(gt)]


def evaluate_slices(
    matched: Matched, keep: NDArray[np.bool_], slices: list[Slice]
) -> Iterator[SliceResult]:
    """Evaluate slices of a subset.

    Args:
        matched: The detections.
        keep: Shape (faces,): the faces of the subset.
        slices: The slices, of any groups.

    Yields:
        A result for each slice.
    """
    errors = matched.point_errors
    for piece in slices:
        counts = keep & piece.faces
        proposals, recalled = count_along_scores(matched, counts, piece.images)
        faces = int(counts.sum())
        ap = ap_of_counts(proposals, recalled, faces)
        nme = () if errors is None else mean_error(errors[counts])
        yield SliceResult(piece.group, piece.value, faces, proposals, recalled, ap, *nme)


def ap_of_counts(proposals: NDArray, recalled: NDArray, faces: float) -> float:
    """Return the AP of counts along the scores; NaN without faces."""
    with np.errstate(divide='ignore', invalid='ignore'):
        return average_precision(recalled / np.float64(faces), recalled / proposals)


def _of_images(gt: WiderGroundTruth, group: str, value: str, images: NDArray[np.bool_]) -> Slice:
    return Slice(group, value, np.repeat(images, np.diff(gt.splits)), images)


def _binned(
    group: str, values: NDArray, edges: tuple[int, ...], unit: str, whole: bool = False
) -> list[Slice]:
    number = np.digitize(values, edges)
    names = [f'below {edges[0]}']
    for low, high in pairwise(edges):
        last = high - 1 if whole else high
        names.append(f'{low}' if low == last else f'{low} to {last}')
    names.append(f'{edges[-1]} and more')
    return [Slice(group, f'{name}{unit}', number == place) for place, name in enumerate(names)]
