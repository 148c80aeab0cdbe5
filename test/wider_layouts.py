# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The layouts in which people have WIDER FACE, made from a drawn set in the canonical one."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np

from mmface.datasets.annotations import read_annotations
from mmface.datasets.face_annotation import FaceAnnotation

SPLITS = ('train', 'val')


def copy_files(source: Path, target: Path, *names: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(source / name, target)


def official_folders(toy: Path, root: Path) -> None:
    """Create the folders that the official archives unpack to."""
    for split in SPLITS:
        shutil.copytree(toy / split / 'images', root / f'WIDER_{split}/images')
        copy_files(toy / split, root / 'wider_face_split', f'wider_face_{split}_bbx_gt.txt')
    copy_files(toy / 'val/gt', root / 'wider_face_split', 'wider_face_val.mat')
    shutil.copytree(toy / 'val/gt', root / 'eval_tools/ground_truth')


def official_archives(toy: Path, root: Path) -> None:
    official_folders(toy, root / 'unpacked')
    for folder in list((root / 'unpacked').iterdir()):
        with zipfile.ZipFile(root / f'{folder.name}.zip', 'w') as archive:
            for file in sorted(folder.rglob('*')):
                archive.write(file, file.relative_to(root / 'unpacked'))
    shutil.rmtree(root / 'unpacked')


def scrfd_layout(toy: Path, root: Path) -> None:
    for split in SPLITS:
        shutil.copytree(toy / split / 'images', root / 'retinaface' / split / 'images')
        copy_files(toy / split, root / 'retinaface' / split, 'labelv2.txt')
    shutil.copytree(toy / 'val/gt', root / 'retinaface/val/gt')


def retinaface_layout(toy: Path, root: Path) -> None:
    """Write ``label.txt`` with x, y, w, h, five keypoints and a blur score."""
    scrfd_layout(toy, root)
    for split in SPLITS:
        lines = []
        for item in read_annotations(toy / split / 'labelv2.txt').images:
            lines.append(f'# {item.path}')
            for box, points in zip(item.bboxes, item.keypoints, strict=True):
                shown = np.where(points[:, 2:] > 0, points - (0, 0, 1), -1.0)
                row = [*box[:2], *(box[2:] - box[:2]), *shown.ravel(), 0.5]
                lines.append(' '.join(f'{v:.5f}' for v in row))
        folder = root / 'retinaface' / split
        (folder / 'label.txt').write_text('\n'.join(lines) + '\n')
        (folder / 'labelv2.txt').unlink()


def coco_file(items: list[FaceAnnotation], path: Path, prefix: str = '') -> None:
    images, rows = [], []
    for number, item in enumerate(items, 1):
        # The files in circulation omit images without faces.
        if len(item.bboxes):
            images.append({'id': number, 'file_name': prefix + item.path})
        for box, points in zip(item.bboxes, item.keypoints, strict=True):
            shown = np.where(points[:, 2:] > 0, points, 0)
            rows.append(
                {
                    'id': len(rows),
                    'image_id': number,
                    'category_id': 1,
                    'bbox': [*map(float, box[:2]), *map(float, box[2:] - box[:2])],
                    'keypoints': [float(v) for v in shown.ravel()],
                    'iscrowd': 0,
                }
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({'images': images, 'annotations': rows}))


def centerface_layout(toy: Path, root: Path) -> None:
    """Write training images in ``image/``, JSON labels, and ``ground_truth`` in the same folder."""
    data = root / 'data/wider_face'
    shutil.copytree(toy / 'train/images', data / 'image')
    shutil.copytree(toy / 'val/images', data / 'WIDER_val/images')
    shutil.copytree(toy / 'val/gt', data / 'ground_truth')
    for split in SPLITS:
        items = read_annotations(toy / split / 'labelv2.txt').images
        coco_file(items, data / f'annotations/{split}_wider_face.json')


def centerface_mindspore_layout(toy: Path, root: Path) -> None:
    data = root / 'dataset/centerface'
    for split in SPLITS:
        shutil.copytree(toy / split / 'images', data / 'images' / split / 'images')
        coco_file(
            read_annotations(toy / split / 'labelv2.txt').images, data / f'annotations/{split}.json'
        )
    shutil.copytree(toy / 'val/gt', data / 'ground_truth')
    (data / 'ground_truth/wider_face_val.mat').rename(data / 'ground_truth/val.mat')


LAYOUTS = (
    official_folders,
    official_archives,
    scrfd_layout,
    retinaface_layout,
    centerface_layout,
    centerface_mindspore_layout,
)
