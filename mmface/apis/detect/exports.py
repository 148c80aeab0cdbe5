# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Turn the JSON results of a run into labels that annotators can correct.

Boxes and keypoints are in pixels of the image as it is seen (turned by EXIF), which is how the
programs that read these files show it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.apis.detect.records import Record
from mmface.datasets.coco_json import coco_text
from mmface.datasets.face_annotation import FaceAnnotation, LabelSet
from mmface.structures import FIVE_KEYPOINTS, KeypointScheme
from mmface.utils.files import write_text

#: Version of labelme whose files are written.
LABELME = '5.5.0'


def to_labels(records: Sequence[Record]) -> LabelSet:
    """Return the faces of images as labels.

    Boxes are cut at the border of the image, and left out if nothing is left. Keypoints outside of
    the image are missing, because programs that read labels refuse both.
    """
    faces = [face for record in records for face in record.found['faces']]
    classes = tuple(sorted({face['class'] for face in faces if 'class' in face})) or ('face',)
    count = next((len(face['keypoints'] or ()) for face in faces), 0)
    scheme = FIVE_KEYPOINTS
    if count != len(FIVE_KEYPOINTS):
        scheme = KeypointScheme((), tuple(range(count)))
    images = [_annotation(record, classes, count) for record in records]
    return LabelSet(images, classes, scheme)


def _annotation(record: Record, classes: Sequence[str], count: int) -> FaceAnnotation:
    faces = _visible(record)
    size = np.array([record.found['width'], record.found['height']], np.float32)
    corners = [face['bbox'] for face in faces]
    boxes: NDArray[np.float32] = np.array(corners, np.float32).reshape(-1, 4)
    boxes = np.clip(boxes, 0, np.tile(size, 2)).astype(np.float32)
    points = np.full((len(faces), count, 3), (-1, -1, 0), np.float32)
    for row, face in zip(points, faces, strict=True):
        if count:
            place = np.array(face['keypoints'], np.float32)
            inside = ((place >= 0) & (place <= size)).all(axis=1)
            row[inside] = np.column_stack([place, np.ones(count, np.float32)])[inside]
    return FaceAnnotation(
        record.source.name.as_posix(),
        int(size[0]),
        int(size[1]),
        boxes,
        points,
        np.zeros(len(faces), bool),
        np.array([classes.index(face.get('class', 'face')) for face in faces], np.int64),
    )


def _visible(record: Record) -> list[dict[str, Any]]:
    """Return the faces of which a part is inside the image."""
    width, height = record.found['width'], record.found['height']
    return [
        face
        for face in record.found['faces']
        if max(face['bbox'][0], 0) < min(face['bbox'][2], width)
        and max(face['bbox'][1], 0) < min(face['bbox'][3], height)
    ]


def write_coco(path: Path, labels: LabelSet, records: Sequence[Record]) -> None:
    """Write COCO JSON with the score of each face, so that ``mmface evaluate`` reads it, too.

    Args:
        path: The file.
        labels: The faces, see ``to_labels``.
        records: What ``labels`` was made from.
    """
    scores = [face['score'] for record in records for face in _visible(record)]
    write_text(path, coco_text(labels, scores))


def write_yolo(folder: Path, labels: LabelSet, files: Sequence[Path]) -> None:
    """Write a YOLO data set: ``data.yaml``, ``labels/`` and ``images/`` with links to the images.

    Args:
        folder: Its folder.
        labels: The faces.
        files: The image file of each entry of ``labels``.

    Raises:
        ValueError: Two images differ in the suffix only, so they would share a text.
    """
    owners: dict[Path, str] = {}
    for entry, file in zip(labels.images, files, strict=True):
        name = Path(entry.path)
        text = folder / 'labels' / name.with_suffix('.txt')
        if owners.setdefault(text, entry.path) != entry.path:
            raise ValueError(f'{owners[text]} and {entry.path} would have the same labels, {text}')
        link_image(folder / 'images' / name, file)
        write_text(text, ''.join(_yolo_rows(entry)), sync=False)
    table: dict[str, Any] = dict(path='.', train='images', val='images', names=[*labels.classes])
    if len(labels.keypoints):
        table['kpt_shape'] = [len(labels.keypoints), 3]
        table['flip_idx'] = [*labels.keypoints.flip_indices]
        if labels.keypoints.names:
            table['kpt_names'] = [*labels.keypoints.names]
    # Every line of JSON is YAML, too.
    lines = [f'{key}: {json.dumps(value, ensure_ascii=False)}\n' for key, value in table.items()]
    write_text(folder / 'data.yaml', ''.join(lines))


def _yolo_rows(entry: FaceAnnotation) -> Iterator[str]:
    size = np.array([entry.width, entry.height], np.float64)
    for box, points, label in zip(entry.bboxes, entry.keypoints, entry.labels, strict=True):
        low, high = box[:2] / size, box[2:] / size
        cells = [*((low + high) / 2), *(high - low)]
        for x, y, weight in points:
            cells += [x / size[0], y / size[1], 2] if weight > 0 else [0, 0, 0]
        yield ' '.join([str(label), *(f'{cell:.8g}' for cell in cells)]) + '\n'


def write_labelme(folder: Path, labels: LabelSet, files: Sequence[Path]) -> None:
    """Write a labelme JSON file for each image, beside a link to the image.

    Args:
        folder: The folder.
        labels: The faces.
        files: The image file of each entry of ``labels``.

    Raises:
        ValueError: Two images differ in the suffix only, so they would share a JSON file.
    """
    names = labels.keypoints.names or tuple(str(k) for k in range(len(labels.keypoints)))
    owners: dict[Path, str] = {}
    for entry, file in zip(labels.images, files, strict=True):
        image = folder / entry.path
        text = image.with_suffix('.json')
        if owners.setdefault(text, entry.path) != entry.path:
            raise ValueError(f'{owners[text]} and {entry.path} would have the same labels, {text}')
        shapes = []
        for number, box in enumerate(entry.bboxes.tolist()):
            name = labels.classes[entry.labels[number]]
            shapes.append(_shape(name, [box[:2], box[2:]], number, 'rectangle'))
            for point_name, (x, y, weight) in zip(
                names, entry.keypoints[number].tolist(), strict=True
            ):
                if weight > 0:
                    shapes.append(_shape(point_name, [[x, y]], number, 'point'))
        table: dict[str, Any] = dict(version=LABELME, flags={}, shapes=shapes)
        table |= dict(imagePath=image.name, imageData=None)
        table |= dict(imageHeight=entry.height, imageWidth=entry.width)
        link_image(image, file)
        write_text(text, json.dumps(table, indent=1) + '\n', sync=False)


def _shape(label: str, points: list[list[float]], group: int, kind: str) -> dict[str, Any]:
    points = [[round(value, 2) for value in point] for point in points]
    return dict(label=label, points=points, group_id=group, shape_type=kind, flags={})


def link_image(link: Path, file: Path) -> None:
    """Make ``link`` a symbolic link to ``file``. An existing link is replaced, a file is not.

    Raises:
        ValueError: There is a file that is not a link.
    """
    if link.exists() and not link.is_symlink():
        raise ValueError(f'{link} is a file, expected a link to {file}: choose another folder')
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(file.resolve())
