# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""COCO-style JSON with any classes and any keypoints.

* ``images``: ``id``, ``file_name`` (``event/name.jpg``), optionally ``width`` and ``height``.
* ``annotations``: ``image_id``, ``bbox`` (x, y, w, h), optionally ``category_id``, ``keypoints``
  (K x (x, y, v), v = 0 for a missing keypoint), and ``iscrowd`` or ``ignore``, which mark a
  face to ignore.
* ``categories``: ``id``, ``name``, and optionally ``keypoints``, the names of the K points.
  Without this list there is one class with the id 1. A category without annotations that is the
  ``supercategory`` of another one, as Roboflow adds it, is no class.

The five standard points may come in any order if they are named; without names their order is
the standard one. Boxes that leave the image or have no area are read unchanged. The references
clip boxes at the border of the training crop and then drop boxes without area. Here the data set
drops boxes that are entirely outside the image, and the target assignment clips the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.datasets.face_annotation import LabelSet, assemble
from mmface.datasets.keypoint_names import scheme_of_names, unnamed_scheme
from mmface.datasets.label_checks import Places
from mmface.structures import KeypointScheme

REMEDY = 'Correct or remove it, or make the file again with tools/data/convert_labels.py'
_LAYOUT = (
    'COCO-style JSON with images (id, file_name) and annotations (image_id, bbox, keypoints '
    'K x (x, y, v))'
)
_MAX_POINTS = 500
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
    kinds = _Categories(source, table.get('categories'))

    owners, labels = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    for number, row in enumerate(rows):
        identity = row.get('image_id') if isinstance(row, dict) else None
        owner = places.get(identity) if isinstance(identity, (int, str)) else None
        if owner is None:
            found = repr(identity if isinstance(row, dict) else row)[:80]
            raise _error(source, 'annotations', number, row, 'the image_id of an image', found)
        kind = row.get('category_id', kinds.default)
        label = kinds.index.get(kind) if isinstance(kind, (int, str)) else None
        if label is None:
            expected = f'a category_id of {", ".join(map(str, kinds.index))}'
            raise _error(source, 'annotations', number, row, expected, repr(kind)[:80])
        owners[number], labels[number] = owner, label
    boxes = _numbers(source, rows, lambda row: row.get('bbox'), 4, 'bbox with x, y, w, h')
    keypoints, order, notes = kinds.keypoints(_count_points(rows))
    nothing, count = [0] * 3 * len(keypoints), len(keypoints)
    points = _numbers(
        source,
        rows,
        lambda row: row.get('keypoints') or nothing,
        3 * count,
        f'keypoints with {count} x (x, y, v) = {3 * count} numbers',
    )
    boxes[:, 2:] += boxes[:, :2]
    points = points.reshape(len(rows), count, 3)[:, order].reshape(len(rows), 3 * count)
    flags = points[:, 2::3]
    flags[flags <= 0] = -1
    ignore = np.array([bool(row.get('iscrowd') or row.get('ignore')) for row in rows], bool)
    kept, classes, more = kinds.classes(labels)
    where = Places(source, 'annotations[{}]'.format, 'images[{}]'.format)
    return assemble(
        heads, owners, boxes, points, ignore, kept, classes, keypoints, [*notes, *more], where
    )


def _count_points(rows: list[Any]) -> int:
    """Return K of the first face with keypoints, or 0."""
    lists = (row.get('keypoints') for row in rows)
    return next((len(found) // 3 for found in lists if isinstance(found, list) and found), 0)


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


class _Categories:
    """The categories of a file.

    Attributes:
        index: Position in the list by id.
        default: The id of an annotation that states none.
    """

    def __init__(self, source: str, categories: Any) -> None:
        self.source = source
        rows = categories or [{'id': 1, 'name': 'face'}]
        try:
            self.names = [str(row['name']) for row in rows]
            self.index = {row['id']: number for number, row in enumerate(rows)}
            self.parents = {row['supercategory'] for row in rows if row.get('supercategory')}
            self.points = {
                number: [str(name) for name in row['keypoints']]
                for number, row in enumerate(rows)
                if row.get('keypoints')
            }
            good = len({*self.names}) == len(self.index) == len(rows) and all(self.names)
            if not good or any(len(names) > _MAX_POINTS for names in self.points.values()):
                raise ValueError
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError(
                f'{source}: expected categories with different ids and names, and lists of names '
                f'as keypoints, found {repr(categories)[:120]}. {REMEDY}'
            ) from None
        self.default = next(iter(self.index)) if len(rows) == 1 else 1

    def keypoints(self, count: int) -> tuple[KeypointScheme, list[int], list[str]]:
        """Return the keypoints, their order in the file, and notes.

        Args:
            count: K of the faces, which a file without names has.
        """
        lists = [*self.points.values()]
        if not lists:
            scheme, note = unnamed_scheme(self.source, min(count, _MAX_POINTS + 1))
            return scheme, list(range(len(scheme))), [note] if note else []
        if any(names != lists[0] for names in lists):
            names = ' and '.join(repr(self.names[k]) for k in [*self.points][:2])
            raise ValueError(
                f'{self.source}: expected the same keypoints in all categories, found others in '
                f'{names}. Remove the keypoints of one of them'
            )
        scheme, order, note = scheme_of_names(self.source, lists[0])
        return scheme, order, [note] if note else []

    def classes(
        self, labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], tuple[str, ...], list[str]]:
        """Return the labels and names of the classes without an unused category of Roboflow."""
        counts = np.bincount(labels, minlength=len(self.names))
        kept = [
            k
            for k, name in enumerate(self.names)
            if counts[k] or name not in self.parents or not counts.any()
        ]
        if len(kept) == len(self.names):
            return labels, tuple(self.names), []
        left_out = next(name for k, name in enumerate(self.names) if k not in kept)
        note = f'{self.source}: the category {left_out!r} only groups others and is left out'
        return np.searchsorted(kept, labels), tuple(self.names[k] for k in kept), [note]


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
        table = np.array(values, np.float64).reshape(len(values), count)
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


def coco_text(labels: LabelSet, scores: Sequence[float] | None = None) -> str:
    """Format labels as JSON. Reading it back gives the same labels.

    Args:
        labels: The labels. A face to ignore gets ``ignore`` 1, our own key. COCO's ``iscrowd`` has
            another meaning.
        scores: One number for each face, in order, if the labels are detections.
    """
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, entry in enumerate(labels.images, 1):
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
                category_id=int(entry.labels[face]) + 1,
                bbox=[*corners[face, :2].tolist(), width, height],
                area=round(width * height, 3),
                iscrowd=0,
            )
            if len(labels.keypoints):
                row['keypoints'] = points[face].ravel().tolist()
                row['num_keypoints'] = int(labelled[face].sum())
            if entry.ignore[face]:
                row['ignore'] = 1
            if scores is not None:
                row['score'] = scores[len(rows)]
            rows.append(row)
    table = dict(images=images, annotations=rows, categories=_categories(labels))
    return json.dumps(table, separators=(',', ':')) + '\n'


def _categories(labels: LabelSet) -> list[dict[str, Any]]:
    """Return the list of categories. Each states the names of the keypoints, if they are known."""
    points: dict[str, Sequence[Any]] = {}
    if labels.keypoints.names:
        points = dict(keypoints=list(labels.keypoints.names), skeleton=[])
    return [
        dict(id=number, name=name, supercategory='face', **points)
        for number, name in enumerate(labels.classes, 1)
    ]


def _shortest(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the doubles with the fewest digits that convert back to the same float32 values."""
    return values.astype(str).astype(np.float64)
