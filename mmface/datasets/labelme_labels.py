# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""labelme JSON: one file for each image, beside the image.

A ``rectangle`` is a box, drawn in any direction; of a ``polygon`` the surrounding box is used. A
``point`` is a keypoint, and its label is the name of the keypoint. It belongs to the box with the
same ``group_id``; without one, to the only box that contains it. Coordinates are pixels from 0
and are not moved. The flag ``ignore`` or ``difficult`` of a box marks a face to ignore.

The name of an image is ``imagePath``, relative to the label file, if that lies in the folder;
otherwise its last part, beside the label file. Classes are sorted by name, and so are keypoints
other than the standard five.
"""

from __future__ import annotations

import json
import math
import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from mmface.datasets.face_annotation import LabelSet
from mmface.datasets.keypoint_names import scheme_of_names
from mmface.datasets.label_files import FaceCollector, Point, read_small_file
from mmface.structures import FIVE_KEYPOINTS, KeypointScheme

_BOXES = ('rectangle', 'polygon')
_MAX_SIDE = 10**9


class _Shape(NamedTuple):
    place: str
    label: str
    group: Any
    corners: tuple[float, float, float, float]
    ignore: bool


class _Image(NamedTuple):
    place: str
    head: tuple[str, int, int]
    boxes: list[_Shape]
    points: list[_Shape]


def recognise(source: str, text: str) -> bool:
    """Return whether a text is labelme JSON."""
    return text.lstrip()[:1] == '{' and '"shapes"' in text and '"annotations"' not in text


def parse(source: str, text: str) -> LabelSet:
    """Parse the JSON of one image.

    Raises:
        ValueError: The text does not fit. Names the file and the shape.
    """
    others: Counter[str] = Counter()
    return _collect(source, [_read(source, text, '', others)], others)


def read_folder(path: Path, files: Sequence[Path], images: Path | None) -> LabelSet:
    """Read a folder of JSON files.

    Args:
        path: The folder.
        files: Its JSON files.
        images: Not used: names are relative to ``path``.

    Raises:
        ValueError: A file does not fit. Names the file and the shape.
    """
    others: Counter[str] = Counter()
    found = []
    for file in files:
        folder = file.relative_to(path).parent.as_posix()
        found.append(_read(str(file), read_small_file(file), folder, others))
    return _collect(str(path), found, others)


def _read(source: str, text: str, folder: str, others: Counter[str]) -> _Image:
    try:
        table = json.loads(text)
        shapes, name = table['shapes'], table['imagePath']
        width, height = (int(table.get(key) or 0) for key in ('imageWidth', 'imageHeight'))
        if not (isinstance(shapes, list) and isinstance(name, str) and name):
            raise TypeError
        if '\0' in name or not (0 <= width < _MAX_SIDE and 0 <= height < _MAX_SIDE):
            raise ValueError
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError) as e:
        reason = ' '.join(str(e).split())[:100] or type(e).__name__
        raise ValueError(
            f'{source}: expected labelme JSON with shapes, imagePath, imageWidth and imageHeight, '
            f'found something else ({reason}). Save it again with labelme'
        ) from None
    image = _Image(source, (_image_name(name, folder), width, height), [], [])
    for number, shape in enumerate(shapes):
        place = f'{source}, shapes[{number}]'
        kind = _kind(place, shape)
        if kind in _BOXES:
            image.boxes.append(_shape(place, shape))
        elif kind == 'point':
            image.points.append(_shape(place, shape))
        else:
            others[kind] += 1
    return image


def _image_name(name: str, folder: str) -> str:
    name = name.replace('\\', '/')
    beside = posixpath.normpath(posixpath.join(folder, name))
    if beside.startswith(('../', '/')) or ':' in name:
        beside = posixpath.normpath(posixpath.join(folder, PurePosixPath(name).name))
    return beside


def _kind(place: str, shape: Any) -> str:
    kind = shape.get('shape_type', 'polygon') if isinstance(shape, dict) else None
    if not isinstance(kind, str):
        raise _error(place, 'a shape with shape_type, label and points', repr(shape)[:80])
    return kind


def _shape(place: str, shape: dict[str, Any]) -> _Shape:
    label, points, group = shape.get('label'), shape.get('points'), shape.get('group_id')
    if not isinstance(label, str) or not label or not isinstance(group, int | str | None):
        raise _error(place, 'a label and a group_id', f'{label!r:.60} and {group!r:.60}')
    try:
        xs, ys = zip(*((float(x), float(y)) for x, y in points or ()), strict=True)
        if not all(map(math.isfinite, (*xs, *ys))):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise _error(place, 'points [[x, y], ...]', repr(points)[:80]) from None
    flags = shape.get('flags')
    ignore = isinstance(flags, dict) and bool(flags.get('ignore') or flags.get('difficult'))
    return _Shape(place, label, group, (min(xs), min(ys), max(xs), max(ys)), ignore)


def _collect(source: str, images: list[_Image], others: Counter[str]) -> LabelSet:
    classes = tuple(sorted({box.label for image in images for box in image.boxes})) or ('face',)
    scheme, index, notes = _keypoints(source, images)
    found = FaceCollector(source)
    alone: list[str] = []
    for image in images:
        found.image(image.place, image.head)
        points = _points_of_boxes(image, index, alone)
        for box, own in zip(image.boxes, points, strict=True):
            found.face(box.place, box.corners, classes.index(box.label), own, box.ignore)
    if alone:
        notes.append(
            f'{source}: {len(alone)} points belong to no box and are left out, the first in '
            f'{alone[0]}: give it the group_id of its box'
        )
    if others:
        counts = ', '.join(f'{count} {kind[:40]}' for kind, count in sorted(others.items()))
        notes.append(f'{source}: shapes that are not read are left out: {counts}')
    return found.finish(classes, scheme, notes)


def _keypoints(
    source: str, images: list[_Image]
) -> tuple[KeypointScheme, dict[str, int], list[str]]:
    """Return the keypoints, the index of each name, and notes."""
    names = sorted({point.label for image in images for point in image.points})
    if not names:
        return KeypointScheme(), {}, []
    # Not every face shows all five points.
    full = names if set(names) - set(FIVE_KEYPOINTS.names) else FIVE_KEYPOINTS.names
    scheme, order, note = scheme_of_names(source, full)
    # Files of single points state no order, so nothing is said about it.
    notes = [note] if note and scheme is not FIVE_KEYPOINTS else []
    return scheme, {full[place]: k for k, place in enumerate(order)}, notes


def _points_of_boxes(
    image: _Image, index: dict[str, int], alone: list[str]
) -> list[dict[int, Point]]:
    found: list[dict[int, Point]] = [{} for _ in image.boxes]
    for point in image.points:
        x, y, *_ = point.corners
        if point.group is not None:
            owners = [k for k, box in enumerate(image.boxes) if box.group == point.group]
        else:
            owners = [k for k, box in enumerate(image.boxes) if _contains(box, x, y)]
        if len(owners) > 1 and point.group is not None:
            raise _error(point.place, f'one box with group_id {point.group!r}', str(len(owners)))
        if len(owners) != 1:
            alone.append(point.place)
        elif index[point.label] in found[owners[0]]:
            raise _error(point.place, 'one point of this name in a box', f'{point.label!r} again')
        else:
            found[owners[0]][index[point.label]] = (x, y, 1.0)
    return found


def _contains(box: _Shape, x: float, y: float) -> bool:
    x1, y1, x2, y2 = box.corners
    return x1 <= x <= x2 and y1 <= y <= y2


def _error(place: str, expected: str, found: str) -> ValueError:
    return ValueError(f'{place}: expected {expected}, found {found}. Correct it in labelme')
