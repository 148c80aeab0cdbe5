# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find faces in bulk: one Parquet file for each shard, with a row for each image."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmface.apis.detect.base import IMAGE_ERRORS, MAX_PIXELS, Detector, batches, count_pixels
from mmface.apis.detect.shards import Entry, Shard
from mmface.structures import Face
from mmface.utils.cli import one_line
from mmface.utils.extras import optional_imports
from mmface.utils.file_kinds import count_pages
from mmface.utils.files import whole_file
from mmface.utils.image_decoding import Image, OnDamage, decode_image
from mmface.utils.images import read_image
from mmface.utils.pipeline import PixelGate, ordered
from mmface.utils.sources import read_source
from mmface.utils.walk import Skipped

with optional_imports():
    import pyarrow as pa
    import pyarrow.parquet as pq

_FLOATS = pa.list_(pa.float32())
#: Columns. An image that could not be used has an ``error`` and no width, height and faces.
SCHEMA = pa.schema(
    [
        pa.field('image', pa.string(), nullable=False),  # name of the member, or path of the file
        pa.field('width', pa.int32()),
        pa.field('height', pa.int32()),
        pa.field('bboxes', pa.list_(_FLOATS)),  # of each face x1, y1, x2, y2 in pixels
        pa.field('scores', _FLOATS),
        pa.field('classes', pa.list_(pa.string())),  # of each face, of a model of several classes
        pa.field('keypoints', pa.list_(pa.list_(_FLOATS))),  # of each face K times x, y; or null
        pa.field('error', pa.string()),
        pa.field('damage', pa.string()),  # what is damaged inside an image that was used
    ]
)
#: Rows that are kept in memory until they are written.
ROW_GROUP = 1000


@dataclass
class ShardReport:
    """What became of a shard.

    Attributes:
        images: Number of images.
        faces: Number of faces.
        failed: Images that could not be used.
        others: Number of members of the tar file that are not images.
    """

    images: int = 0
    faces: int = 0
    failed: int = 0
    others: int = 0


def detect_shard(shard: Shard, target: Path, detector: Detector, workers: int = 0) -> ShardReport:
    """Find the faces in the images of a shard and write them to a Parquet file.

    The same shard gives the same bytes, whatever the number of workers.

    Args:
        shard: The images.
        target: The file, which is written whole or not at all.
        detector: Finds faces; several threads may call it at once if ``workers`` is above 0.
        workers: Number of threads; 0 does everything in the thread of the caller.

    Raises:
        OSError: The shard cannot be read or the file cannot be written.
        ValueError: The shard is damaged.
    """
    report = ShardReport()
    others: list[Skipped] = []

    gate = PixelGate(MAX_PIXELS)

    def work(entry: Entry) -> dict[str, Any]:
        path = entry.name if entry.source is None else entry.source.path
        file = path if entry.content is None else io.BytesIO(entry.content)
        with gate.hold(count_pixels(file)):
            return _row(entry, detector)

    rows = ordered(shard.entries(others), work, workers)
    with whole_file(target) as tmp, pq.ParquetWriter(tmp, SCHEMA) as writer, closing(rows):
        for group in batches(rows, ROW_GROUP):
            writer.write_table(pa.Table.from_pylist(group, SCHEMA))
            report.images += len(group)
            report.failed += sum(row['error'] is not None for row in group)
            report.faces += sum(len(row['scores'] or ()) for row in group)
    report.others = len(others)
    return report


def read_faces(path: Path) -> Iterator[tuple[str, list[Face], str | None]]:
    """Iterate over the rows of a file of ``detect_shard``: name, faces and error."""
    import numpy as np

    for group in pq.ParquetFile(path).iter_batches(ROW_GROUP):
        for row in group.to_pylist():
            keypoints = row['keypoints'] or [None] * len(row['scores'] or ())
            faces = [
                Face(
                    np.array(bbox, np.float32),
                    score,
                    None if points is None else np.array(points, np.float32),
                )
                for bbox, score, points in zip(
                    row['bboxes'] or (), row['scores'] or (), keypoints, strict=True
                )
            ]
            yield row['image'], faces, row['error']


def _row(entry: Entry, detector: Detector) -> dict[str, Any]:
    """Return the row of an image. It never raises an error about the image."""
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    # Names of members may have bytes that are not UTF-8.
    row['image'] = entry.name.encode('utf-8', 'backslashreplace').decode()
    if entry.problem:
        return row | {'error': entry.problem}
    damage: list[str] = []
    try:
        image = _read(entry, damage.append)
        if entry.source is None:
            file = entry.name if entry.content is None else io.BytesIO(entry.content)
            if (pages := count_pages(file)) > 1:
                damage.append(f'{pages} pages, only the first one is read')
        (faces,) = detector([image])
    except IMAGE_ERRORS as error:
        return row | {'error': one_line(error)}
    height, width = image.shape[:2]
    has_classes = bool(faces) and faces[0].class_name is not None
    has_points = bool(faces) and faces[0].keypoints is not None
    return row | {
        'width': width,
        'height': height,
        'bboxes': [face.bbox for face in faces],
        'scores': [face.score for face in faces],
        'classes': [face.class_name for face in faces] if has_classes else None,
        'keypoints': [list(face.keypoints) for face in faces if face.keypoints is not None]
        if has_points
        else None,
        'damage': '; '.join(damage) or None,
    }


def _read(entry: Entry, on_damage: OnDamage) -> Image:
    if entry.source is not None:
        return read_source(entry.source, on_damage)
    if entry.content is None:
        return read_image(entry.name, on_damage)
    return decode_image(entry.content, entry.name, on_damage)
