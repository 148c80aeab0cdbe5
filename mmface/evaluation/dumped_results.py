# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read detections that mmdet's ``DumpDetResults`` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.prediction_source import Chunk, PredictionSource
from mmface.evaluation.wider_txt import finite_rows
from mmface.utils.pickled_tensors import read_pickled_tensors

_FORMAT = (
    "a list of dicts with 'img_path' and 'pred_instances' (bboxes, scores), as DumpDetResults of "
    'mmdet 3 writes it'
)


class DumpedResultsSource(PredictionSource):
    """Reads a ``.pkl`` of ``DumpDetResults``; nothing in it is executed."""

    def read(self) -> Iterator[Chunk]:
        """Yield all images in one piece."""
        samples = read_pickled_tensors(self.path)
        if not isinstance(samples, list):
            raise ValueError(f'{self.path}: expected {_FORMAT}, found {type(samples).__name__}')
        tables: list[NDArray[np.float64]] = []
        images: list[str] = []
        for number, sample in enumerate(samples):
            name, bboxes, scores, points = self._sample(number, sample)
            key = self.claim(name, f'{self.path}: image {name}')
            if key is not None:
                images.append(key)
                place = f'{self.path}: image {name}'
                rows = finite_rows(bboxes, scores, place)
                tables.append(self.with_points(rows, points, place))
        yield Chunk(images, self.join(tables), [len(own) for own in tables])

    def _sample(self, number: int, sample: Any) -> tuple[str, NDArray, NDArray, Any]:
        try:
            found = sample['pred_instances']
            bboxes = np.asarray(found['bboxes'], np.float64).reshape(-1, 4)
            scores = np.asarray(found['scores'], np.float64).reshape(len(bboxes))
            points = found.get('keypoints') if self.points else None
            if self.category is not None:
                own = np.asarray(found['labels']).reshape(len(bboxes)) == self.category.index
                bboxes, scores = bboxes[own], scores[own]
                points = None if points is None else np.asarray(points)[own]
            name = str(sample.get('img_id', ''))
            if '/' not in name:  # a number, as in COCO data sets
                name = str(sample['img_path'])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{self.path}: entry {number}: expected {_FORMAT} ({error!r})'
            ) from error
        return name, bboxes, scores, points
