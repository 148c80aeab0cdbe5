# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read detections from a JSON file in COCO's results format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.prediction_source import Category, Chunk, PredictionSource
from mmface.evaluation.wider_gt import WiderGroundTruth

_FORMAT = (
    'a list of {"image_id", "bbox": [x, y, w, h], "score"}, or {"images": [...], "annotations": '
    '[...]} with such entries, possibly with "keypoints": [x, y, v, ...],'
)


class CocoResultsSource(PredictionSource):
    """Reads COCO results.

    Args:
        path: The JSON file.
        gt: Read only the images of this ground truth; None reads all.
        show: Has no effect; the file is read at once.
        category: Take only the boxes with the ``category_id`` of this class; None takes all.
        image_ids: COCO file whose ``images`` give the file name of each number. Not needed if
            ``image_id`` is a file name, or if the file itself has ``images``.
    """

    def __init__(
        self,
        path: Path,
        gt: WiderGroundTruth | None,
        show: bool = False,
        category: Category | None = None,
        image_ids: Path | None = None,
    ) -> None:
        super().__init__(path, gt, show, category)
        self.image_ids = image_ids

    def read(self) -> Iterator[Chunk]:
        """Yield all images in one piece."""
        content = load_json(self.path)
        entries, names = content, {}
        if isinstance(content, dict):
            entries = content.get('annotations')
            names = _names(self.path, content)
        if self.image_ids is not None:
            names = _names(self.image_ids, load_json(self.image_ids))
        if not isinstance(entries, list):
            raise ValueError(f'{self.path}: expected {_FORMAT}, found {type(content).__name__}')
        rows: dict[Any, list[list[float]]] = {number: [] for number in names}
        for number, entry in enumerate(entries):
            image, row, kind = self._entry(number, entry)
            own_rows = rows.setdefault(image, [])
            if self.category is None or kind == self.category.number:
                own_rows.append(row)
        tables: list[NDArray[np.float64]] = []
        images: list[str] = []
        for image, own in rows.items():
            if isinstance(image, int) and image not in names:
                raise ValueError(
                    f'{self.path}: the image_id {image} is a number; expected a file name, or a '
                    'COCO file with "images" that gives the name of each number (image_ids)'
                )
            name = names.get(image, image)
            key = self.claim(str(name), f'{self.path}: image {name}')
            if key is not None:
                images.append(key)
                tables.append(np.array(own, np.float64).reshape(-1, 5 + 2 * self.points))
        yield Chunk(images, self.join(tables), [len(own) for own in tables])

    def _entry(self, number: int, entry: Any) -> tuple[Any, list[float], Any]:
        try:
            x, y, w, h = map(float, entry['bbox'])
            score = float(entry['score'])
            image = entry['image_id']
            if not isinstance(image, int | str) or not np.isfinite((x, y, w, h, score)).all():
                raise ValueError
            row = [x, y, w, h, score]
            if self.points:
                row = self.with_points(np.array([row]), _points(entry), '')[0].tolist()
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(
                f'{self.path}: entry {number}: expected {_FORMAT} of finite numbers, found '
                f'{str(entry)[:200]}'
            ) from None
        return image, row, entry.get('category_id')


def _points(entry: Any) -> NDArray[np.float64] | None:
    """Return the keypoints of an entry, shape (1, K, 3), NaN for 0, 0, 0: COCO's missing point."""
    if not entry.get('keypoints'):
        return None
    points = np.array(entry['keypoints'], np.float64).reshape(1, -1, 3)
    points[~points.any(axis=2)] = np.nan
    return points


def load_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It is not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist; expected a JSON file')
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: expected a JSON file ({error})') from error


def _names(path: Path, content: Any) -> dict[Any, str]:
    """Return the file name of each image number."""
    try:
        return {image['id']: str(image['file_name']) for image in content.get('images', [])}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path}: expected "images": [{{"id", "file_name"}}, ...] ({error!r})'
        ) from error
