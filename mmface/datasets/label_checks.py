# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Checks of labels that every format passes: names, units, corners, area, keypoints, duplicates.

A check either raises one ``ValueError`` or returns a note: one sentence with a count, the file,
and the place of the first case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.structures import KeypointScheme

#: An image with more faces gets a note. The fullest one of WIDER FACE val has 709.
MAX_FACES = 2000
_FEW = 5  # boxes from which on their units can be judged
Head = tuple[str, int, int]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Places:
    """Where labels are written, for messages.

    Attributes:
        source: The file or folder.
        face: Returns the place of face ``n``, such as ``line 7``.
        image: Returns the place of image ``n``.
    """

    source: str = 'labels'
    face: Callable[[int], str] = 'face {}'.format
    image: Callable[[int], str] = 'image {}'.format

    def note(self, rows: NDArray[np.bool_], what: str) -> list[str]:
        """Return a note about the faces for which ``rows`` is true, if there are any."""
        found = np.flatnonzero(rows)
        if not found.size:
            return []
        return [f'{self.source}: {found.size} {what}, the first in {self.face(int(found[0]))}']

    def error(self, face: int, expected: str, found: str, remedy: str) -> ValueError:
        """Return an error about one face."""
        where = f'{self.source}, {self.face(face)}'
        return ValueError(f'{where}: expected {expected}, found {found}. {remedy}')


def mend_names(heads: Sequence[Head], places: Places) -> tuple[list[Head], list[str]]:
    """Return names with forward slashes that are relative to the folder of the images.

    Raises:
        ValueError: A name leads out of the folder of the images.
    """
    mended, changed = [], []
    for number, (name, width, height) in enumerate(heads):
        new = name
        if '\\' in name or name[0] == '/' or name[:2] == './':
            new = name.replace('\\', '/').removeprefix('./').lstrip('/')
            changed.append(number)
        if ('..' in new and '..' in new.split('/')) or not new:
            raise ValueError(
                f'{places.source}, {places.image(number)}: expected the name of an image in the '
                f'folder of images, found {name[:120]!r}'
            )
        mended.append((new, width, height))
    if not changed:
        return mended, []
    first = changed[0]
    return mended, [
        f'{places.source}: {len(changed)} names of images with backslashes or a slash in front, '
        f'the first in {places.image(first)}: {heads[first][0][:120]!r} is read as '
        f'{mended[first][0][:120]!r}'
    ]


def check_faces(
    heads: Sequence[Head],
    owners: NDArray[np.int64],
    boxes: Floats,
    points: NDArray[np.float32],
    keypoints: KeypointScheme,
    places: Places,
) -> list[str]:
    """Check boxes and keypoints, and return notes.

    Args:
        heads: Path, width and height of each image.
        owners: (n,) index of the image of each face.
        boxes: (n, 4) x1, y1, x2, y2.
        points: (n, K, 3) x, y, weight.
        keypoints: What the K points are.
        places: For messages.

    Raises:
        ValueError: Boxes or points are shares of the image, or corners stand for sizes.
    """
    if not len(boxes):
        return []
    area: NDArray[np.bool_] = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    _check_units(boxes, area, points, places)
    sizes = np.array([head[1:] for head in heads], np.float64).reshape(-1, 2)[owners]
    counts = np.bincount(owners, minlength=len(heads))
    return [
        *places.note(~area, 'boxes without area'),
        *_check_inside(boxes, area, sizes, places),
        *_check_points(boxes, area, points, keypoints, places),
        *(
            f'{places.source}: {counts[k]} faces in {heads[k][0]}, more than {MAX_FACES}: this '
            'needs much memory in training'
            for k in np.flatnonzero(counts > MAX_FACES).tolist()
        ),
    ]


def _check_units(
    boxes: Floats, area: NDArray[np.bool_], points: NDArray[np.float32], places: Places
) -> None:
    remedy = 'Multiply them by the width and height of their image'
    real = boxes[area]
    if not real.size:
        return
    if real.min() >= 0 and real.max() <= 1:
        first, all_of = int(np.flatnonzero(area)[0]), f'all {len(real)} boxes within 0..1'
        raise places.error(first, 'pixels', f'{all_of}: shares of width and height', remedy)
    if not points.size or points[..., :2].max() > 1:
        return
    shown = points[points[..., 2] > 0][:, :2]
    if shown.any() and shown.min() >= 0 and real.max() > 2:
        first = int(np.flatnonzero((points[..., 2] > 0).any(axis=1))[0])
        found = 'all keypoints within 0..1, but boxes in pixels'
        raise places.error(first, 'keypoints in pixels', found, remedy)


def _check_inside(
    boxes: Floats, area: NDArray[np.bool_], sizes: Floats, places: Places
) -> list[str]:
    known: NDArray[np.bool_] = np.all(sizes > 0, axis=1) & area
    if not known.any():
        return []
    outside = known & ((boxes[:, :2] >= sizes) | (boxes[:, 2:] <= 0)).any(axis=1)
    leaves = known & (boxes[:, 2:] > sizes + 1).any(axis=1)
    # As corners, the numbers read as width and height must fit into every image.
    sides = boxes[:, 2:] - boxes[:, :2]
    fits: NDArray[np.bool_] = np.all((sides > boxes[:, :2]) & (sides <= sizes + 1), axis=1)
    if leaves.sum() > 0.5 * known.sum() and known.sum() >= _FEW and fits[known].all():
        raise places.error(
            int(np.flatnonzero(leaves)[0]),
            'x y w h',
            f'boxes of which {leaves.sum()} of {known.sum()} leave their image, and that all fit '
            'as corners x1 y1 x2 y2',
            'Convert them: w = x2 - x1, h = y2 - y1',
        )
    turned = np.all(boxes[outside, 2:] <= sizes[outside, ::-1] + 1)
    hint = 'width and height may be exchanged' if turned else 'the image may have another size'
    return [f'{note}: {hint}' for note in places.note(outside, 'boxes lie outside of their image')]


def _check_points(
    boxes: Floats,
    area: NDArray[np.bool_],
    points: NDArray[np.float32],
    keypoints: KeypointScheme,
    places: Places,
) -> list[str]:
    shown = points[..., 2] > 0
    if not shown.any():
        return []
    x, y = points[..., 0], points[..., 1]
    notes = places.note(
        (shown & (x == 0) & (y == 0)).any(axis=1),
        'faces have a labelled keypoint at 0,0 (a missing one is -1 -1 -1 in text files, 0 0 0 in '
        'JSON)',
    )
    sides = boxes[:, 2:] - boxes[:, :2]
    low, high = ((boxes[:, :2] - sides).T[..., None], (boxes[:, 2:] + sides).T[..., None])
    near = (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])
    far = (shown > near).any(axis=1) & area
    if far.sum() > 0.5 * (shown.any(axis=1) & area).sum():
        notes += places.note(far, 'faces have a keypoint far from their box')
    for left, right in _sides(keypoints):
        both = shown[:, left] & shown[:, right] & (x[:, left] != x[:, right])
        swapped = both & (x[:, left] > x[:, right])
        if swapped.sum() > 0.5 * both.sum():
            names = keypoints.names
            notes += places.note(
                swapped,
                f'of {both.sum()} faces have the left keypoint {names[left]} right of '
                f'{names[right]}: left and right are as seen in the image, not '
                "the person's",
            )
            break
    return notes


def _sides(keypoints: KeypointScheme) -> list[tuple[int, int]]:
    """Return the pairs of left and right points."""
    names, flip = keypoints.names, keypoints.flip_indices
    return [(k, flip[k]) for k, name in enumerate(names) if flip[k] != k and 'left' in name.lower()]


def join_entries(
    heads: Sequence[Head],
    owners: NDArray[np.int64],
    columns: Sequence[NDArray[Any]],
    places: Places,
) -> tuple[list[Head], NDArray[np.int64], NDArray[np.bool_], list[str]]:
    """Join the entries of an image that is listed more than once.

    A face of a later entry that is equal to a face of an earlier one is left out.

    Args:
        heads: Path, width and height of each entry.
        owners: (n,) index of the entry of each face.
        columns: Arrays of n rows: all that is known of a face.
        places: For messages.

    Returns:
        The joined heads, the new owners, which faces are kept, and notes.

    Raises:
        ValueError: The entries state different sizes.
    """
    first: dict[str, int] = {}
    target = np.array([first.setdefault(head[0], len(first)) for head in heads], np.int64)
    kept = np.ones(len(owners), bool)
    if len(first) == len(heads):
        return list(heads), owners, kept, []
    joined: list[Head] = [('', 0, 0)] * len(first)
    again = []
    for number, head in enumerate(heads):
        other = joined[target[number]]
        if other[0] and other != head:
            raise ValueError(
                f'{places.source}, {places.image(number)}: expected one size of {head[0]}, found '
                f'{head[1]}x{head[2]} here and {other[1]}x{other[2]} before. Correct or remove one'
            )
        again += [number] if other[0] else []
        joined[target[number]] = head
    seen: dict[tuple[int, bytes], int] = {}
    for row in np.flatnonzero(np.isin(owners, np.flatnonzero(_repeated(target)))).tolist():
        entry = int(owners[row])
        face = b''.join(column[row].tobytes() for column in columns)
        kept[row] = seen.setdefault((int(target[entry]), face), entry) == entry
    note = (
        f'{places.source}: {len(again)} images are listed again, the first in '
        f'{places.image(again[0])}: {heads[again[0]][0]!r}. The faces of its entries are joined; '
        f'{(~kept).sum()} equal faces are left out'
    )
    return joined, target[owners], kept, [note]


def _repeated(target: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(np.bincount(target)[target] > 1)


def size_problem(name: str, stated: tuple[int, int], found: tuple[int, int]) -> str:
    """Say how the size of an image differs from the (width, height) that its labels state."""
    text = f'{name} is {found[0]}x{found[1]}, but its labels are for {stated[0]}x{stated[1]}'
    if stated == found[::-1]:
        return f'{text} (width and height are exchanged, or it is not turned by its EXIF data)'
    wide, high = (f / s for f, s in zip(found, stated, strict=True))
    same = abs(wide - high) < 0.01 * wide
    return f'{text} (the image was resized by {wide:.3g})' if same else text
