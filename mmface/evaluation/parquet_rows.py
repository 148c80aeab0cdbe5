# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read detections from Parquet files, such as ``mmface detect --parquet`` writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.prediction_source import Chunk, PredictionSource
from mmface.evaluation.wider_txt import finite_rows
from mmface.utils.extras import optional_imports

_NUMBERS = ('x1', 'y1', 'x2', 'y2', 'score')
#: Columns of the two layouts: one row per box, or one row per image.
_BY_BOX = ('image', *_NUMBERS)
_BY_IMAGE = ('image', 'bboxes', 'scores')
#: Name, corners (n, 4), scores (n,), and classes and keypoints (n, K, 2) or None.
_Image = tuple[str, NDArray[np.float64], NDArray[np.float64], Any, Any]


class ParquetSource(PredictionSource):
    """Reads a file, or all ``.parquet`` files of a folder, in one of two layouts.

    One row per box has ``image``, ``x1``, ``y1``, ``x2``, ``y2`` (pixels), ``score`` and possibly
    ``class``. A row whose score is null stands for an image without detections. One row per image,
    as ``mmface detect --parquet`` writes it, has ``image``, ``bboxes``, ``scores`` and possibly
    ``classes`` and ``keypoints``. A row with an ``error`` is no entry. Other columns are not read.
    """

    def read(self) -> Iterator[Chunk]:
        """Yield the images of each file in one piece."""
        files = sorted(self.path.glob('*.parquet')) if self.path.is_dir() else [self.path]
        for file in files:
            tables: list[NDArray[np.float64]] = []
            images: list[str] = []
            for name, bboxes, scores, classes, points in _read(file, self.points > 0):
                place = f'{file}: image {name}'
                key = self.claim(name, place)
                if key is None:
                    continue
                rows = self.with_points(finite_rows(bboxes, scores, place), points, place)
                if self.category is not None and classes is not None:
                    rows = rows[np.asarray(classes, str) == self.category.name]
                images.append(key)
                tables.append(rows)
            yield Chunk(images, self.join(tables), [len(own) for own in tables])


def _read(path: Path, keypoints: bool) -> list[_Image]:
    """Return the detections of each image; their keypoints only if they are wanted.

    Raises:
        ValueError: The file is no Parquet file, is damaged, or has other columns.
    """
    with optional_imports():
        import pyarrow
        from pyarrow import parquet
    try:
        columns = parquet.read_schema(path).names
        for layout, convert, extra in (
            (_BY_BOX, _by_box, ['class']),
            (_BY_IMAGE, _by_image, ['classes', *(['keypoints'] if keypoints else [])]),
        ):
            if set(layout) <= set(columns):
                more = [name for name in (*extra, 'error') if name in columns]
                found = parquet.read_table(path, columns=[*layout, *more])
                return convert({name: found[name].to_pylist() for name in found.column_names})
    # Damaged files raise any of these, not all with the name of the file.
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path}: expected a Parquet file of detections ({error})') from error
    raise ValueError(
        f'{path}: expected the columns {", ".join(_BY_BOX)}, or {", ".join(_BY_IMAGE)}, found '
        f'{", ".join(columns)}'
    )


def _by_box(columns: dict[str, list]) -> list[_Image]:
    table = np.array([columns[name] for name in _NUMBERS], np.float64)  # null becomes NaN
    places: dict[str, list[int]] = {}
    for place, name in enumerate(columns['image']):
        places.setdefault(str(name), [])
        if not np.isnan(table[-1, place]):
            places[str(name)].append(place)
    classes = columns.get('class')
    return [
        (name, table[:4, own].T, table[4, own], classes and [classes[place] for place in own], None)
        for name, own in places.items()
    ]


def _by_image(columns: dict[str, list]) -> list[_Image]:
    found: list[_Image] = []
    missing = [None] * len(columns['image'])
    for name, bboxes, scores, classes, points, error in zip(
        columns['image'],
        columns['bboxes'],
        columns['scores'],
        columns.get('classes', missing),
        columns.get('keypoints', missing),
        columns.get('error', missing),
        strict=True,
    ):
        if error is not None:
            continue
        corners = np.array(bboxes or [], np.float64).reshape(-1, 4)
        values = np.array(scores or [], np.float64).reshape(len(corners))
        if classes is not None and len(classes) != len(corners):
            raise ValueError(f'{len(classes)} classes of {len(corners)} boxes')
        found.append((str(name), corners, values, classes, points))
    return found
