# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read the attributes that WIDER FACE gives to every face: blur, occlusion, pose and others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.wider_gt import WiderGroundTruth, find_face_file
from mmface.utils.mat_files import read_mat_files

#: The attributes and the meaning of their values (readme.txt of the annotations of WIDER FACE).
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    'blur': ('clear', 'normal', 'heavy'),
    'expression': ('typical', 'exaggerated'),
    'illumination': ('normal', 'extreme'),
    'occlusion': ('none', 'partial', 'heavy'),
    'pose': ('typical', 'atypical'),
    'invalid': ('no', 'yes'),
}


def read_attributes(
    folder: str | os.PathLike[str], gt: WiderGroundTruth
) -> dict[str, NDArray[np.int16]]:
    """Read the attributes of all faces from ``wider_face_val.mat``.

    Args:
        folder: Folder of the ground truth, or one of its files.
        gt: The ground truth read from the same folder, possibly restricted.

    Returns:
        For each of ``ATTRIBUTES`` that the file has: the value of each face, shape (faces,).

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The numbers of values and faces of an image differ.
    """
    path = find_face_file(Path(folder))
    wanted = {name: f'{name}_label_list' for name in ATTRIBUTES}
    (fields,) = read_mat_files({path: ('event_list', 'file_list', *wanted.values())})
    names = [
        f'{event.item()}/{file.item()}'
        for event, files in zip(
            fields['event_list'].ravel(), fields['file_list'].ravel(), strict=True
        )
        for file in files.ravel()
    ]
    counts = np.diff(gt.splits)
    found = {}
    for name, field in wanted.items():
        if field not in fields:
            continue
        images = [np.ravel(image) for event in fields[field].ravel() for image in event.ravel()]
        if len(images) != len(names):
            raise ValueError(
                f'{path}: expected {field} of {len(names)} images, found {len(images)}'
            )
        values = dict(zip(names, images, strict=True))
        for image, count in zip(gt.names, counts, strict=True):
            if len(values.get(image, ())) != count:
                raise ValueError(
                    f'{path}: expected {field} of {count} faces of {image}, found '
                    f'{len(values.get(image, ()))}'
                )
        found[name] = np.concatenate([values[image] for image in gt.names]).astype(np.int16)
    return found
