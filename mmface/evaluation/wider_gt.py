# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The ground truth of WIDER FACE: the four ``.mat`` files of the benchmark."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.utils.image_names import image_key
from mmface.utils.mat_files import read_mat_files

SUBSETS = ('easy', 'medium', 'hard')

_REMEDY = 'take the four files of the official ground truth (wider_{face,easy,medium,hard}_val.mat)'


@dataclass(frozen=True)
class WiderGroundTruth:
    """Faces of all images, concatenated, and the subsets they belong to."""

    names: tuple[str, ...]
    """``event/stem`` of every image, in the order of the ``.mat`` files."""
    boxes: NDArray[np.float64]
    """Shape (faces, 4): x, y, w, h in pixels. Degenerate boxes are kept and count as missed."""
    splits: NDArray[np.int64]
    """Shape (images + 1,): the faces of image i are ``boxes[splits[i]:splits[i + 1]]``."""
    keep: dict[str, NDArray[np.bool_]]
    """For each subset (easy, medium and hard): shape (faces,), true where the face counts."""
    known: frozenset[str]
    """The names of the whole ground truth, also after ``restrict``."""
    keypoints: NDArray[np.float64] | None = None
    """Shape (faces, K, 3): x, y in pixels and weight, 0 if unlabelled; None without any."""

    @cached_property
    def index(self) -> dict[str, int]:
        """Index of each image by its name."""
        return {name: number for number, name in enumerate(self.names)}

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of the subsets; the last one has the most faces."""
        return tuple(self.keep)

    @property
    def partial(self) -> bool:
        """Whether ``restrict`` removed images."""
        return len(self.names) < len(self.known)

    def boxes_of(self, image: int) -> NDArray[np.float64]:
        """Return all faces of an image, shape (g, 4) in x, y, w, h."""
        return self.boxes[self.splits[image] : self.splits[image + 1]]

    def find(self, name: str) -> int | None:
        """Return the index of image ``event/name``, with or without extension, None if unknown."""
        return self.index.get(name, self.index.get(image_key(name)))

    def restrict(self, names: Iterable[str]) -> WiderGroundTruth:
        """Return the ground truth of the named images only, to evaluate a part.

        Args:
            names: ``event/name.jpg`` or ``event/name``, in any order; repeats are ignored.

        Raises:
            ValueError: An image is unknown, or no image is named.
        """
        numbers: set[int] = set()
        for name in names:
            number = self.find(name)
            if number is None:
                raise ValueError(
                    f'image {name!r} of the part is not in the ground truth; expected '
                    f'event/name.jpg such as {self.names[0]}.jpg'
                )
            numbers.add(number)
        if not numbers:
            raise ValueError('expected at least one image name in the part, found none')
        chosen = sorted(numbers)
        counts = np.diff(self.splits)
        faces = np.repeat(np.isin(np.arange(len(self.names)), chosen), counts)
        return WiderGroundTruth(
            names=tuple(self.names[number] for number in chosen),
            boxes=self.boxes[faces],
            splits=np.concatenate([[0], np.cumsum(counts[chosen])]),
            keep={subset: keep[faces] for subset, keep in self.keep.items()},
            known=self.known,
            keypoints=None if self.keypoints is None else self.keypoints[faces],
        )


def is_wider(path: Path) -> bool:
    """Return whether a path may be the official files: it is or has one, or is missing."""
    if path.is_dir():
        return any(path.glob('*.mat')) or not any(path.iterdir())
    return not path.exists() or path.suffix.lower() == '.mat'


def find_face_file(folder: Path) -> Path:
    """Return the file of all faces: ``wider_face_val.mat``, or ``val.mat`` of MindSpore's zoo.

    Args:
        folder: Folder of the ground truth, or one of its files.
    """
    if folder.suffix.lower() == '.mat' and folder.is_file():
        folder = folder.parent
    official, other = folder / 'wider_face_val.mat', folder / 'val.mat'
    return other if other.is_file() and not official.is_file() else official


def read_ground_truth(folder: str | os.PathLike[str]) -> WiderGroundTruth:
    """Read ``wider_{face,easy,medium,hard}_val.mat`` (MATLAB 5).

    Args:
        folder: Folder of the four files, or one of them.

    Raises:
        FileNotFoundError: The folder or one of the files does not exist.
        ValueError: The content of a file is not as expected; the message names the file.
    """
    face_file = find_face_file(Path(folder))
    root = face_file.parent
    if not root.is_dir():
        raise FileNotFoundError(f'ground truth folder {root} does not exist; {_REMEDY}')
    fields, *subsets = _load(root)
    names: list[str] = []
    boxes: list[NDArray[np.float64]] = []
    try:
        for event, files, faces in zip(
            fields['event_list'].ravel(),
            fields['file_list'].ravel(),
            fields['face_bbx_list'].ravel(),
            strict=True,
        ):
            for file, face in zip(files.ravel(), faces.ravel(), strict=True):
                names.append(f'{event.item()}/{file.item()}')
                boxes.append(np.asarray(face, np.float64).reshape(-1, 4))
    except (AttributeError, ValueError, TypeError) as error:
        raise ValueError(
            f'{face_file}: expected cells of events, files and (n, 4) boxes, found another '
            f'structure ({error}); {_REMEDY}'
        ) from error
    if not names or len(set(names)) < len(names):
        raise ValueError(f'{face_file}: expected distinct images, found {len(names)}; {_REMEDY}')
    splits = np.concatenate([[0], np.cumsum([len(image) for image in boxes])]).astype(np.int64)
    keep = {
        subset: _read_subset(root / f'wider_{subset}_val.mat', content['gt_list'], splits)
        for subset, content in zip(SUBSETS, subsets, strict=True)
    }
    return WiderGroundTruth(tuple(names), np.concatenate(boxes), splits, keep, frozenset(names))


def _read_subset(path: Path, cells: Any, splits: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Convert the faces of one subset to a mask of all faces, shape (faces,)."""
    # 1-based numbers of the faces of an image. An empty list is stored as (0, 0) or (0, 1).
    numbers = [np.asarray(image).ravel() for event in cells.ravel() for image in np.ravel(event)]
    if not all(image.dtype.kind in 'iuf' for image in numbers):
        raise ValueError(f'{path}: expected numbers of faces in gt_list; {_REMEDY}')
    faces = np.diff(splits)
    if len(numbers) != len(faces):
        raise ValueError(
            f'{path}: expected index lists of {len(faces)} images as in wider_face_val.mat, '
            f'found {len(numbers)}; {_REMEDY}'
        )
    keep = np.zeros(int(splits[-1]), bool)
    for image, chosen in enumerate(numbers):
        if not len(chosen):
            continue
        if chosen.min() < 1 or chosen.max() > faces[image]:
            raise ValueError(
                f'{path}: image {image} has {faces[image]} faces, found number '
                f'{chosen.max()} in gt_list; {_REMEDY}'
            )
        keep[splits[image] + chosen.astype(np.int64) - 1] = True
    return keep


def _load(root: Path) -> tuple[dict[str, Any], ...]:
    """Read the four files, that of all faces first, and check that they have the fields."""
    wanted: dict[Path, tuple[str, ...]] = {}
    wanted[find_face_file(root)] = ('event_list', 'file_list', 'face_bbx_list')
    wanted |= {root / f'wider_{subset}_val.mat': ('gt_list',) for subset in SUBSETS}
    missing = [path for path in wanted if not path.is_file()]
    if missing:
        raise FileNotFoundError(f'{missing[0]} is missing; {_REMEDY}')
    try:
        contents = read_mat_files(wanted)
    except ValueError as error:
        raise ValueError(f'{error}; {_REMEDY}') from error
    for (path, fields), content in zip(wanted.items(), contents, strict=True):
        lost = [field for field in fields if field not in content]
        if lost:
            raise ValueError(f'{path}: expected the field {lost[0]}, which is missing; {_REMEDY}')
    return tuple(contents)
