# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read detections from a Parquet file with one row per box, such as ``mmface detect`` writes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmface.evaluation.prediction_source import Chunk, PredictionSource
from mmface.evaluation.wider_txt import finite_rows
from mmface.utils.extras import optional_imports

_CORNERS = ('x1', 'y1', 'x2', 'y2')


class ParquetSource(PredictionSource):
    """Reads the columns ``image``, ``x1``, ``y1``, ``x2``, ``y2`` (pixels) and ``score``.

    Other columns are not read. A row whose score is null stands for an image without detections.
    """

    def read(self) -> Iterator[Chunk]:
        """Yield all images in one piece."""
        with optional_imports():
            import pyarrow
            from pyarrow import parquet
        try:
            columns = parquet.read_schema(self.path).names
            wanted = ['image', *_CORNERS, 'score']
            lost = [name for name in wanted if name not in columns]
            if lost:
                raise ValueError(
                    f'{self.path}: expected the columns {", ".join(wanted)}, found '
                    f'{", ".join(columns)}'
                )
            found = parquet.read_table(self.path, columns=wanted)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f'{self.path}: expected a Parquet file ({error})') from error
        names, group = np.unique(
            np.array(found['image'].to_pylist(), object).astype(str), return_inverse=True
        )
        table = np.array(
            [found[name].cast(pyarrow.float64()).to_pylist() for name in (*_CORNERS, 'score')],
            np.float64,  # null becomes NaN
        ).T.reshape(-1, 5)
        empty = np.isnan(table[:, 4])
        tables, images = [], []
        order = np.argsort(group, kind='stable')
        ends = np.cumsum(np.bincount(group, minlength=len(names)))
        for name, own in zip(names.tolist(), np.split(order, ends[:-1]), strict=True):
            place = f'{self.path}: image {name}'
            key = self.claim(name, place)
            if key is not None:
                own = own[~empty[own]]
                images.append(key)
                tables.append(finite_rows(table[own, :4], table[own, 4], place))
        rows = np.concatenate([np.empty((0, 5)), *tables])
        yield Chunk(images, rows, [len(own) for own in tables])
