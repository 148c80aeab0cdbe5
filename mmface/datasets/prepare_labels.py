# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read labels of any kind for :mod:`mmface.datasets.prepare` and write labelv2."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from mmface.datasets.annotations import read_annotations
from mmface.datasets.face_annotation import FaceAnnotation, LabelSet, one_class
from mmface.datasets.text_labels import is_numeric
from mmface.utils.mat_files import read_mat_files

# Best first. For training, labels with keypoints come first. For validation, labels with every
# image come first: the available JSON files do not list images without faces.
KINDS = {
    'train': ('labelv2', 'retinaface', 'coco', 'bbx_gt'),
    'val': ('labelv2', 'bbx_gt', 'retinaface', 'mat', 'coco'),
}
_MAT_FIELDS = ('event_list', 'file_list', 'face_bbx_list', 'invalid_label_list')
MAT_NAMES = tuple(f'wider_{name}_val.mat' for name in ('face', 'easy', 'medium', 'hard'))


def kind_of(name: str) -> str | None:
    """Return the kind of a label file by its name: a key of :data:`KINDS`, or None."""
    name = name.lower()
    patterns = {
        'labelv2': r'labelv2.*\.txt',
        'retinaface': r'label\.txt',
        'coco': r'.*(train|val).*\.json',
        'bbx_gt': r'.*bbx_gt.*\.txt',
        'mat': r'(wider_)?(face_)?val\.mat',
    }
    return next((kind for kind, p in patterns.items() if re.fullmatch(p, name)), None)


def mat_name(name: str) -> str | None:
    """Return the canonical name of a ground truth file, or None. ``val.mat`` has all faces."""
    match = re.fullmatch(r'(?:wider_)?(face_|easy_|medium_|hard_)?val\.mat', name.lower())
    return f'wider_{match[1] or "face_"}val.mat' if match else None


def read_labels(path: Path, kind: str) -> LabelSet:
    """Read a label file of any kind; of several classes, that of faces.

    Raises:
        ValueError: The file does not match its kind. The message names the file.
    """
    if kind == 'mat':
        return LabelSet(read_mat_faces(path))
    return one_class(read_annotations(path, kind), str(path))


def read_mat_faces(path: Path) -> list[FaceAnnotation]:
    """Read boxes from an official ``.mat`` file. Images are assumed to be ``.jpg``.

    Raises:
        ValueError: The file does not have that structure.
    """
    try:
        (mat,) = read_mat_files({path: _MAT_FIELDS})
        events, names = mat['event_list'], mat['file_list']
        boxes, invalid = mat['face_bbx_list'], mat.get('invalid_label_list')
        faces = []
        for e, (event,) in enumerate(events):
            for i, (name,) in enumerate(names[e, 0]):
                box = boxes[e, 0][i, 0].astype(np.float32).reshape(-1, 4)
                box[:, 2:] += box[:, :2]
                flags = invalid[e, 0][i, 0].ravel() == 1 if invalid is not None else False
                real = (box != 0).any(axis=1)
                ignore = np.broadcast_to(flags, len(box))[real]
                points = np.full((len(ignore), 5, 3), (-1, -1, 0), np.float32)
                image = f'{event[0]}/{name[0]}.jpg'
                labels = np.zeros(len(ignore), np.int64)
                faces.append(FaceAnnotation(image, 0, 0, box[real], points, ignore, labels))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path}: expected a WIDER FACE ground truth file with event_list, file_list and '
            f'face_bbx_list, found something else ({type(error).__name__}: {error}). '
            'Take the .mat files from the official eval_tools.zip'
        ) from None
    return faces


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f'{value:.5f}'


def labelv2_text(
    faces: Mapping[str, FaceAnnotation], sizes: Mapping[str, tuple[int, int]], split: str
) -> str:
    """Return the text of a labelv2 file.

    Validation rows have four numbers. Training rows have 19. They have five if the whole file
    has no keypoint or the face is to be ignored; the last one is 1 for a face to ignore. Boxes
    without area are skipped, as in the published files.

    Args:
        faces: The faces by ``event/name.jpg``.
        sizes: Width and height of each image, pixels.
        split: ``train`` or ``val``.
    """
    lines = []
    with_points = any((face.keypoints[..., 2] > 0).any() for face in faces.values())
    for key, face in faces.items():
        lines.append(f'# {key} {sizes[key][0]} {sizes[key][1]}')
        for box, points, ignore in zip(face.bboxes, face.keypoints, face.ignore, strict=True):
            if (box[2:] <= box[:2]).any():
                continue
            row = list(map(_number, box))
            if split == 'train' and with_points and not ignore:
                shown = np.where(points[:, 2:] > 0, points, -1)
                row += [f'{v:.5f}' for v in shown.ravel()]
            elif split == 'train':
                row.append(str(int(ignore)))
            lines.append(' '.join(row))
    return '\n'.join(lines) + '\n'


def keep_images(text: str, keys: Collection[str]) -> str:
    """Restrict a label text of any format to some images, without other changes."""
    kept, keep = [], False
    for line in text.splitlines(keepends=True):
        head = line.strip(' #\r\n')
        if head and not is_numeric(head):  # the path of the next image
            keep = head in keys or re.sub(r'(\s+\d+){2}$', '', head) in keys
        if keep:
            kept.append(line)
    return ''.join(kept)
