# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""COCO-style JSON with five keypoints per face, the training labels of the CenterFace projects.

* ``images``: ``id``, ``file_name`` (``event/name.jpg``), optionally ``width`` and ``height``.
* ``annotations``: ``image_id``, ``bbox`` (x, y, w, h), optionally ``category_id``, ``keypoints``
  (5 x (x, y, v), v = 0 for a missing keypoint), and ``iscrowd`` or ``ignore``, which mark a
  face to ignore.
* ``categories``: the category named ``face`` is used. Without this list its id is 1.

Boxes that leave the image or have no area are read unchanged. The references clip boxes at
the border of the training crop and then drop boxes without area. Here the data set drops
boxes that are entirely outside the image, and the target assignment clips the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.datasets.face_annotation import FaceAnnotation, LabelSet, assemble
from mmface.structures import FIVE_KEYPOINTS

REMEDY = 'Correct or remove it, or make the file again with tools/data/convert_labels.py'
_LAYOUT = (
    'COCO-style JSON with images (id, file_name) and annotations (image_id, bbox, keypoints '
    '5 x (x, y, v))'
)
_NO_POINTS = [0] * (3 * len(FIVE_KEYPOINTS))
_MAX_SIDE = 10**9  # pixels; larger values are not an image size
_VISIBLE = 2  # COCO's flag. Flag 1 (labelled but hidden) is not a separate state in our labels.


def parse_coco(source: str, text: str) -> LabelSet:
    """Parse the text of a JSON file.

    Args:
        source: Name of the file, for messages.
        text: Its content.

    Returns:
        One entry for each image, in the order of ``images``. Faces keep the order of
        ``annotations``.

    Raises:
        ValueError: The text is not such JSON, or an entry is wrong. Names the file and the entry.
    """
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'{source}: expected {_LAYOUT}, found a file that is not JSON ({error}). It is cut off '
            'or damaged: download it again, or make it with tools/data/convert_labels.py'
        ) from None
    images, rows = (table.get(key) if isinstance(table, dict) else None for key in _LISTS)
    if not isinstance(images, list) or not isinstance(rows, list):
        keys = f'the keys {list(table)[:8]}' if isinstance(table, dict) else type(table).__name__
        raise ValueError(f'{source}: expected {_LAYOUT}, found {keys}. Use another label file')
    heads, places = _heads(source, images)
    classes = _face_ids(source, table.get('categories'))

    owners = np.zeros(len(rows), np.int64)
    for number, row in enumerate(rows):
        identity = row.get('image_id') if isinstance(row, dict) else None
        owner = places.get(identity) if isinstance(identity, (int, str)) else None
        if owner is None:
            found = repr(identity if isinstance(row, dict) else row)[:80]
            raise _error(source, 'annotations', number, row, 'the image_id of an image', found)
        if row.get('category_id', 1) not in classes:
            expected = f'the category_id of faces, {" or ".join(map(str, classes))}'
            found = repr(row['category_id'])[:80]
            raise _error(source, 'annotations', number, row, expected, found)
        owners[number] = owner
    boxes = _numbers(source, rows, lambda row: row.get('bbox'), 4, 'bbox with x, y, w, h')
    points = _numbers(
        source,
        rows,
        lambda row: row.get('keypoints') or _NO_POINTS,
        len(_NO_POINTS),
        'keypoints with 5 x (x, y, v) = 15 numbers',
    )
    boxes[:, 2:] += boxes[:, :2]
    flags = points[:, 2::3]
    flags[flags <= 0] = -1
    ignore = np.array([bool(row.get('iscrowd') or row.get('ignore')) for row in rows], bool)
    order = np.argsort(owners, kind='stable')
    return assemble(heads, owners[order], boxes[order], points[order], ignore[order])


_LISTS = ('images', 'annotations')


def _heads(source: str, images: list[Any]) -> tuple[list[tuple[str, int, int]], dict[Any, int]]:
    """Return path and size of each image, and a map from image id to position in the list."""
    heads: list[tuple[str, int, int]] = []
    places: dict[Any, int] = {}
    for number, image in enumerate(images):
        try:
            name, identity = image['file_name'], image['id']
            if not (isinstance(name, str) and name and isinstance(identity, (int, str))):
                raise TypeError
            width, height = (int(image.get(key) or 0) for key in ('width', 'height'))
            if not (0 <= width < _MAX_SIDE and 0 <= height < _MAX_SIDE) or '\0' in name:
                raise ValueError
            heads.append((name, width, height))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            expected = 'COCO-style JSON: an image with id, file_name, optionally width and height'
            raise _error(source, 'images', number, {}, expected, repr(image)[:120]) from None
        new = places.setdefault(identity, number) == number
        if not new:
            raise _error(source, 'images', number, image, 'a unique id', 'an id seen before')
    return heads, places


def _face_ids(source: str, categories: Any) -> list[Any]:
    """Return the ids of the categories named ``face``."""
    if not categories:
        return [1]
    try:
        ids = [c['id'] for c in categories if str(c['name']).lower() == 'face']
        names = [str(c['name']) for c in categories]
    except (KeyError, TypeError):
        ids, names = [], [repr(categories)[:80]]
    if not ids:
        raise ValueError(
            f"{source}: expected a category with id and the name 'face', found "
            f'{", ".join(names[:8])}. Use a file with labels of faces'
        )
    return ids


def _numbers(
    source: str, rows: list[Any], get: Callable[[Any], Any], count: int, expected: str
) -> NDArray[np.float64]:
    """Return ``count`` numbers of each annotation, (n, count)."""
    values = [get(row) for row in rows]
    for number, value in enumerate(values):
        if not isinstance(value, list) or len(value) != count:
            found = f'{len(value)} values' if isinstance(value, list) else repr(value)[:80]
            raise _error(source, 'annotations', number, rows[number], expected, found)
    try:
        table = np.array(values, np.float64).reshape(-1, count)
    except (ValueError, TypeError, OverflowError):
        table = np.full((1, count), np.nan)
    if not np.isfinite(table).all():
        number = next(n for n, value in enumerate(values) if not all(map(_is_finite, value)))
        found = repr(values[number])[:120]
        raise _error(source, 'annotations', number, rows[number], expected, found)
    return table


def _is_finite(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (ValueError, TypeError, OverflowError):
        return False


def _error(source: str, key: str, number: int, row: Any, expected: str, found: str) -> ValueError:
    name = f' (id {row["id"]})' if isinstance(row, dict) and 'id' in row else ''
    return ValueError(
        f'{source}, {key}[{number}]{name}: expected {expected}, found {found}. {REMEDY}'
    )


def coco_text(entries: Iterable[FaceAnnotation]) -> str:
    """Format labels as JSON. Reading it back gives the same numbers.

    A face to ignore gets ``ignore`` 1, our own key. COCO's ``iscrowd`` has another meaning.
    """
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, entry in enumerate(entries, 1):
        size = dict(width=entry.width, height=entry.height)
        images.append(dict(id=number, file_name=entry.path, **size))
        corners = _shortest(entry.bboxes)
        sides = np.round(corners[:, 2:] - corners[:, :2], 9)
        labelled = entry.keypoints[..., 2] > 0
        points = np.where(labelled[..., None], _shortest(entry.keypoints), 0.0)
        points[..., 2] = _VISIBLE * labelled
        for face in range(len(corners)):
            width, height = sides[face].tolist()
            row = dict(
                id=len(rows) + 1,
                image_id=number,
                category_id=1,
                bbox=[*corners[face, :2].tolist(), width, height],
                area=round(width * height, 3),
                iscrowd=0,
                keypoints=points[face].ravel().tolist(),
                num_keypoints=int(labelled[face].sum()),
            )
            if entry.ignore[face]:
                row['ignore'] = 1
            rows.append(row)
    category = dict(id=1, name='face', supercategory='face', keypoints=list(FIVE_KEYPOINTS.names))
    table = dict(images=images, annotations=rows, categories=[{**category, 'skeleton': []}])
    return json.dumps(table, separators=(',', ':')) + '\n'


def _shortest(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the doubles with the fewest digits that convert back to the same float32 values."""
    return values.astype(str).astype(np.float64)
