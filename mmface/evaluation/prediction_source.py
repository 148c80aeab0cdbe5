# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What every reader of predictions shares: the image each entry belongs to, and the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.wider_gt import WiderGroundTruth
from mmface.utils.image_names import image_key


class Chunk(NamedTuple):
    """The detections of some images."""

    names: list[str]
    """``event/stem`` of each image."""
    table: NDArray[np.float64]
    """Shape (n, 5), finite: x, y, w, h in pixels and score, image by image.

    Possibly followed by x, y in pixels of each keypoint, NaN where it is unknown.
    """
    counts: list[int]
    """Number of rows of each image."""


@dataclass(frozen=True)
class Category:
    """The class that is evaluated, of several."""

    name: str
    index: int
    """Place among the classes of the ground truth, as the detector labels it."""
    number: int | None = None
    """``id`` of the category in COCO files."""


class PredictionSource:
    """Reads predictions in pieces. Base class of the readers of each format.

    Args:
        path: File or folder.
        gt: Read only the images of this ground truth; None reads all.
        show: Whether to show a progress bar on a terminal.
        category: Take only the detections of this class; None takes all.

    Attributes:
        extra: After reading: number of images that are not in the ground truth.
        notes: After reading: warnings, one sentence each.
    """

    def __init__(
        self,
        path: Path,
        gt: WiderGroundTruth | None,
        show: bool = False,
        category: Category | None = None,
    ) -> None:
        self.path = path
        self.gt = gt
        self.show = show
        self.category = category
        self.extra = 0
        self.notes: list[str] = []
        self._stems: dict[str, str] | None = None
        self._by_stem = 0
        self._seen = 0
        self._example = ''
        self._places: dict[str, str] = {}
        self._other_points: Counter[int] = Counter()
        labelled = None if gt is None else gt.keypoints
        #: Number of keypoints that are read, 0 if the ground truth has none.
        self.points = 0 if labelled is None else labelled.shape[1]

    def __iter__(self) -> Iterator[Chunk]:
        """Yield all images, each in one piece.

        Raises:
            ValueError: An entry cannot be read, belongs to an image that had one before, or no
                entry belongs to an image of the ground truth.
        """
        self.extra = self._by_stem = self._seen = 0
        self.notes = []
        self._places = {}
        self._other_points.clear()
        yield from self.read()
        if not self._places and self._seen:
            self._refuse_all()
        if self._by_stem:
            self.notes.append(
                f'{self._by_stem} of {self._seen} entries were assigned to images by the file name '
                f'alone, because their folder is no event (first: {self._example})'
            )
        for number, count in self._other_points.items():
            self.notes.append(
                f'the keypoints of {count} detections are not evaluated: expected {self.points} '
                f'as in the labels, found {number}'
            )

    def read(self) -> Iterator[Chunk]:
        """Yield as ``__iter__``; call ``claim`` for every entry."""
        raise NotImplementedError

    def claim(self, name: str, place: str) -> str | None:
        """Return the image that an entry belongs to, None to skip it.

        Args:
            name: ``folder/name`` with or without extension, as the file spells it.
            place: Where the entry is, for messages.

        Raises:
            ValueError: Another entry belongs to the same image.
        """
        self._seen += 1
        self._example = self._example or place
        key = self._find(name)
        if self.gt is not None and key not in self.gt.index:
            self.extra += key not in self.gt.known
            return None
        if key in self._places:
            raise ValueError(
                f'expected one file per image, found {self._places[key]} and {place}; '
                'choose the folder of one set of predictions'
            )
        self._places[key] = place
        return key

    def join(self, tables: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the rows of all images in one table; there may be no image."""
        return np.concatenate([np.empty((0, 5 + 2 * self.points)), *tables])

    def with_points(
        self, rows: NDArray[np.float64], keypoints: Any, place: str
    ) -> NDArray[np.float64]:
        """Append the keypoints to rows, if they are read.

        Args:
            rows: Shape (n, 5).
            keypoints: Shape (n, K, >= 2): x, y in pixels; None if there are none.
            place: Where the rows are, for messages.

        Raises:
            ValueError: The keypoints have another shape.
        """
        if not self.points:
            return rows
        found: NDArray[np.float64] = np.full((len(rows), self.points, 2), np.nan)
        if keypoints is not None and len(rows):
            try:
                given = np.array(keypoints, np.float64)
                if given.ndim != 3 or len(given) != len(rows) or given.shape[2] < 2:
                    raise ValueError(f'found the shape {given.shape}')
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f'{place}: expected keypoints of the shape ({len(rows)}, K, 2) ({error})'
                ) from error
            if given.shape[1] == self.points:
                found = np.where(np.isfinite(given[..., :2]), given[..., :2], np.nan)
            else:
                self._other_points[given.shape[1]] += len(rows)
        return np.concatenate([rows, found.reshape(len(rows), -1)], axis=1)

    def _find(self, name: str) -> str:
        if self.gt is None or name in self.gt.known:
            return name
        known = self.gt.known
        parts = image_key(name).split('/')
        for start in range(len(parts)):  # own data may have deep folders or none
            key = '/'.join(parts[start:])
            if key in known:
                return key
        key = '/'.join(parts[-2:])
        if self._stems is None:
            self._stems = {}
            for full in known:
                stem = full.rpartition('/')[2]
                self._stems[stem] = '' if stem in self._stems else full
        found = self._stems.get(key.rpartition('/')[2])
        if not found:
            return key
        self._by_stem += 1
        return found

    def _refuse_all(self) -> None:
        if self.gt is None or not self.extra:
            return  # entries of other parts of the ground truth are no error
        raise ValueError(
            f'{self.path}: none of its {self._seen} entries belongs to an image of the ground '
            f'truth; expected names such as {self.gt.names[0]}, found {self._example}'
        )
