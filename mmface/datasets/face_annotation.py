# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The faces of an image, in the form that every label reader returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmface.datasets.label_checks import Head, Places, check_faces, join_entries, mend_names
from mmface.structures import FIVE_KEYPOINTS, KeypointScheme

NOWHERE = Places()


class FaceAnnotation(NamedTuple):
    """The faces of one image, in pixels of the image as stored.

    Attributes:
        path: ``event/name.jpg``, relative to the folder of the images.
        width: Width of the image, 0 if the format does not contain it.
        height: Height of the image, 0 if the format does not contain it.
        bboxes: (n, 4) x1, y1, x2, y2, where x2 = x1 + w (no pixel added or subtracted). As in the
            file: a box may leave the image or have no area.
        keypoints: (n, K, 3) x, y, weight; -1, -1, 0 for a missing keypoint. All images of a file
            have the same K.
        ignore: (n,) True for faces that are used neither for training nor for evaluation.
        labels: (n,) index of the class of each face in ``LabelSet.classes``.
    """

    path: str
    width: int
    height: int
    bboxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    ignore: NDArray[np.bool_]
    labels: NDArray[np.int64]

    @property
    def has_area(self) -> NDArray[np.bool_]:
        """(n,) whether a box has area inside the image, or anywhere if the size is unknown."""
        corners = self.bboxes
        if self.width > 0 and self.height > 0:
            edges = np.array((self.width, self.height) * 2, np.float32)
            corners = np.clip(corners, 0, edges)
        wide, high = (corners[:, 2:] > corners[:, :2]).T
        return wide & high

    def where(self, chosen: NDArray[np.bool_]) -> FaceAnnotation:
        """Return the faces for which ``chosen`` (n,) is true."""
        return self._replace(
            bboxes=self.bboxes[chosen],
            keypoints=self.keypoints[chosen],
            ignore=self.ignore[chosen],
            labels=self.labels[chosen],
        )


@dataclass(frozen=True)
class LabelSet:
    """The content of a label file or folder.

    Attributes:
        images: One entry for each image, in the order of the file.
        classes: Names of the classes; ``('face',)`` for formats without classes.
        keypoints: The K keypoints of every face; K may be 0.
        notes: Counted warnings, one sentence each.
    """

    images: list[FaceAnnotation]
    classes: tuple[str, ...] = ('face',)
    keypoints: KeypointScheme = FIVE_KEYPOINTS
    notes: tuple[str, ...] = ()


def assemble(
    heads: Sequence[Head],
    owners: NDArray[np.int64],
    boxes: NDArray[np.float64],
    points: NDArray[np.float64],
    ignore: NDArray[np.bool_],
    labels: NDArray[np.int64] | None = None,
    classes: tuple[str, ...] = ('face',),
    keypoints: KeypointScheme = FIVE_KEYPOINTS,
    notes: Sequence[str] = (),
    places: Places = NOWHERE,
) -> LabelSet:
    """Check the faces of a file and distribute them to its images.

    Args:
        heads: Path, width and height of each image.
        owners: (n,) index of the image of each face.
        boxes: (n, 4) x1, y1, x2, y2.
        points: (n, 3 K) K x (x, y, flag). A flag below 0 marks a missing keypoint.
        ignore: (n,) see :class:`FaceAnnotation`.
        labels: (n,) index of each face's class. Default: 0.
        classes: See :class:`LabelSet`.
        keypoints: See :class:`LabelSet`.
        notes: See :class:`LabelSet`.
        places: Where the labels are written, for messages.

    Raises:
        ValueError: A check of :mod:`mmface.datasets.label_checks` fails.
    """
    found = points.reshape(len(boxes), len(keypoints), 3).astype(np.float32)
    labelled = found[..., 2] >= 0
    found[~labelled] = -1
    found[..., 2] = labelled
    kinds = np.zeros(len(boxes), np.int64) if labels is None else labels
    heads, mended = mend_names(heads, places)
    checked = check_faces(heads, owners, boxes, found, keypoints, places)
    columns = (boxes, found, kinds, ignore)
    heads, owners, kept, joined = join_entries(heads, owners, columns, places)
    corners = boxes.astype(np.float32)
    shown: NDArray[np.float32] = found
    if not kept.all() or (owners[1:] < owners[:-1]).any():
        order = np.flatnonzero(kept)[np.argsort(owners[kept], kind='stable')]
        owners, corners, shown = owners[order], corners[order], found[order]
        ignore, kinds = ignore[order], kinds[order]
    ends = np.bincount(owners, minlength=len(heads)).cumsum().tolist()
    images = [
        FaceAnnotation(*head, corners[a:b], shown[a:b], ignore[a:b], kinds[a:b])
        for head, a, b in zip(heads, [0, *ends], ends, strict=False)
    ]
    return LabelSet(images, classes, keypoints, (*notes, *mended, *checked, *joined))


def choose_classes(found: LabelSet, source: str, classes: Sequence[str]) -> LabelSet:
    """Keep the faces of some classes; the label of a face becomes its index in ``classes``.

    Args:
        found: All faces of a file.
        source: Name of the file, for messages.
        classes: Names, in any case. A file with one class of a format without names
            (``('face',)``) takes any one name.

    Raises:
        ValueError: A name is given twice, or the file has none of the classes.
    """
    wanted, known = ([name.lower() for name in names] for names in (classes, found.classes))
    if len(set(wanted)) < len(wanted) or not wanted:
        raise ValueError(f'classes {tuple(classes)}: expected each name once')
    if known == ['face'] and len(wanted) == 1:
        return replace(found, classes=tuple(classes))
    missing = [name for name in classes if name.lower() not in known]
    absent = f'{source}: no class is named {", ".join(map(repr, missing))}; its classes are '
    absent += ', '.join(found.classes[:20])
    if len(missing) == len(wanted):
        raise ValueError(absent)
    new = np.array([wanted.index(name) if name in wanted else -1 for name in known], np.int64)
    images, left_out = [], np.zeros(len(known), np.int64)
    for image in found.images:
        labels = new[image.labels]
        left_out += np.bincount(image.labels[labels < 0], minlength=len(known))
        images.append(image._replace(labels=labels).where(labels >= 0))
    counts = [f'{n} of {found.classes[k]!r}' for k, n in enumerate(left_out.tolist()) if n]
    notes = [absent] if missing else []
    notes += [f'{source}: boxes of other classes left out: {", ".join(counts)}'] if counts else []
    return LabelSet(images, tuple(classes), found.keypoints, (*found.notes, *notes))


def one_class(found: LabelSet, source: str) -> LabelSet:
    """Restrict labels to one class: the only one that has boxes, or ``face``.

    Args:
        found: All faces of a file.
        source: Name of the file, for messages.

    Raises:
        ValueError: Several classes have boxes, and none of them is named ``face``.
    """
    if len(found.classes) == 1:
        return found
    empty = np.zeros(0, np.int64)
    used = np.unique(np.concatenate([empty, *(image.labels for image in found.images)]))
    names = [found.classes[int(label)] for label in used] or list(found.classes[:1])
    chosen = names if len(names) == 1 else [n for n in names if n.lower() in ('face', 'faces')]
    if len(chosen) != 1:
        raise ValueError(
            f'{source} has boxes of the classes {", ".join(names[:20])}, and labelv2 has one '
            'class: choose it with --category NAME, or write .json'
        )
    return choose_classes(found, source, chosen)
