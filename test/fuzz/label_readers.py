# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The readers of labels, and small valid files for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mutate import mutate_json
from reader import Reader
from samples import BBX_GT, LABELME, LABELV2, RETINAFACE, VOC, YOLO, YOLO_YAML


def _labels(fmt: str, text: bytes) -> Reader:
    def read(folder: Path) -> object:
        from mmface.datasets.annotations import read_annotations

        return read_annotations(folder / 'a.txt', fmt)

    return Reader(fmt, 'a.txt', lambda _: [text], read)


def _label_folder(name: str, file: str, *seeds: bytes, **kwargs: Any) -> Reader:
    """A folder of label files; of YOLO's, one of two files is damaged."""

    def make(folder: Path) -> list[bytes]:
        from PIL import Image

        Image.new('RGB', (64, 48)).save(folder / 'a.jpg')
        if file == 'data.yaml':
            (folder / 'a.txt').write_bytes(YOLO)
        elif file == 'a.txt':
            (folder / 'data.yaml').write_bytes(YOLO_YAML[0])
        return list(seeds)

    def read(folder: Path) -> object:
        from mmface.datasets.annotations import read_annotations

        return read_annotations(folder, name.partition(' ')[0])

    return Reader(name, file, make, read, **kwargs)


def coco_table(categories: list[str]) -> bytes:
    images = [dict(id=n, file_name=f'0--A/{n}.jpg', width=64, height=48) for n in range(1, 3)]
    rows = [
        dict(
            id=n, image_id=1 + n % 2, category_id=1, bbox=[1.5, 2, 3, 4], area=12, iscrowd=0,
            keypoints=[5, 5, 2] * 4 + [0, 0, 0], num_keypoints=4,
        )
        for n in range(1, 4)
    ]  # fmt: skip
    kinds = [dict(id=n, name=name) for n, name in enumerate(categories, 1)]
    return json.dumps(dict(images=images, annotations=rows, categories=kinds)).encode()


def _read_coco_faces(folder: Path) -> object:
    from mmface.datasets.annotations import read_annotations

    return read_annotations(folder / 'a.json', 'coco')


def label_readers() -> Iterator[Reader]:
    """Return the readers of labels."""
    yield _labels('labelv2', LABELV2)
    yield _labels('bbx_gt', BBX_GT)
    yield _labels('retinaface', RETINAFACE)
    yield _label_folder('yolo', 'a.txt', YOLO)
    yield _label_folder('yolo names', 'data.yaml', *YOLO_YAML)
    yield _label_folder('labelme', 'a.json', LABELME, mutate=mutate_json)
    yield _label_folder('voc', 'a.xml', VOC)
    faces = coco_table(['face'])
    yield Reader('coco faces', 'a.json', lambda _: [faces], _read_coco_faces, mutate_json)
