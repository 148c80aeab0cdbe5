# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read detections from a Parquet file with one row per box, such as ``mmface detect`` writes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.prediction_source import Chunk, PredictionSource
from mmface.evaluation.wider_txt import finite_rows
from mmface.utils.extras import optional_imports

_NUMBERS = ('x1', 'y1', 'x2', 'y2', 'score')


class ParquetSource(PredictionSource):
    """Reads the columns ``image``, ``x1``, ``y1``, ``x2``, ``y2`` (pixels) and ``score``.

    Other columns are not read. A row whose score is null stands for an image without detections.
    """

    def read(self) -> Iterator[Chunk]:
        """Yield all images in one piece."""
        column, table = self._read_columns()
        empty = np.isnan(table[:, 4])
        names, group = np.unique(column, return_inverse=True)
        tables, images = [], []
        order = np.argsort(group, kind='stable')
        ends = np.cumsum(np.bincount(group, minlength=len(names)))
        pieces = np.split(order, ends[:-1]) if len(names) else []
        for name, own in zip(names.tolist(), pieces, strict=True):
            place = f'{self.path}: image {name}'
            key = self.claim(name, place)
            if key is not None:
                own = own[~empty[own]]
                images.append(key)
                tables.append(finite_rows(table[own, :4], table[own, 4], place))
        rows = np.concatenate([np.empty((0, 5)), *tables])
        yield Chunk(images, rows, [len(own) for own in tables])

    def _read_columns(self) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """Return the image of each row, and x1, y1, x2, y2 and score, NaN for null."""
        with optional_imports():
            import pyarrow
            from pyarrow import parquet
        wanted = ['image', *_NUMBERS]
        try:
            columns = parquet.read_schema(self.path).names
            if set(wanted) <= set(columns):
                found = parquet.read_table(self.path, columns=wanted)
                names = np.array(found['image'].to_pylist(), object).astype(str)
                numbers = [found[name].cast(pyarrow.float64()).to_pylist() for name in _NUMBERS]
                return names, np.array(numbers, np.float64).T.reshape(-1, len(_NUMBERS))
        # Damaged files raise any of these, not all with the name of the file.
        except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{self.path}: expected a Parquet file ({error})') from error
        raise ValueError(
            f'{self.path}: expected the columns {", ".join(wanted)}, found {", ".join(columns)}'
        )
