# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Collect faces from many small label files, one for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmface.datasets.face_annotation import LabelSet, assemble
from mmface.datasets.label_checks import Head, Places
from mmface.structures import KeypointScheme

#: A label file of one image that is larger is refused. Images inside JSON files are large.
MAX_BYTES = 100_000_000
Point = tuple[float, float, float]


class FaceCollector:
    """Faces of a folder of label files, in the order in which they are added.

    Args:
        source: The folder, for messages.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.heads: list[Head] = []
        self.heads_at: list[str] = []
        self.rows: list[tuple[int, Sequence[float], bool, int]] = []
        self.points: list[Mapping[int, Point]] = []
        self.places: list[str] = []

    def image(self, place: str, head: Head) -> None:
        """Add an image; ``place`` is the name of its label file."""
        self.heads.append(head)
        self.heads_at.append(place)

    def face(
        self,
        place: str,
        box: Sequence[float],
        label: int,
        points: Mapping[int, Point],
        ignore: bool = False,
    ) -> None:
        """Add a face of the last image.

        Args:
            place: File and line or entry.
            box: x1, y1, x2, y2, pixels.
            label: Index of its class.
            points: x, y, flag of labelled keypoints, by their index.
            ignore: See :class:`.FaceAnnotation`.
        """
        self.rows.append((len(self.heads) - 1, box, ignore, label))
        self.points.append(points)
        self.places.append(place)

    def finish(
        self, classes: tuple[str, ...], keypoints: KeypointScheme, notes: Sequence[str]
    ) -> LabelSet:
        """Check the faces and distribute them to their images."""
        count = len(self.rows)
        points = np.full((count, len(keypoints), 3), -1.0)
        for face, shown in enumerate(self.points):
            for index, point in shown.items():
                points[face, index] = point
        owners, boxes, ignore, labels = zip(*self.rows, strict=True) if count else ((),) * 4
        return assemble(
            self.heads,
            np.array(owners, np.int64),
            np.array(boxes, np.float64).reshape(count, 4),
            points.reshape(count, 3 * len(keypoints)),
            np.array(ignore, bool),
            np.array(labels, np.int64),
            classes,
            keypoints,
            notes,
            Places(self.source, lambda n: self.places[n], lambda n: self.heads_at[n]),
        )


def read_small_file(path: Path, limit: int = MAX_BYTES) -> str:
    """Read a text file of limited size.

    Raises:
        ValueError: The file is larger than ``limit`` bytes.
    """
    size = path.stat().st_size
    if size > limit:
        raise ValueError(
            f'{path} has {size:,} bytes: expected labels of one image, at most {limit:,}'
        )
    return path.read_text(encoding='utf-8-sig', errors='surrogateescape')
