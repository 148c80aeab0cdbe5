# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Each mistake of the table in mmface/datasets/README.md is made, and its message is looked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from helpers import REPO
from mmface.cli import labels as convert
from mmface.datasets.annotations import read_annotations

POINTS = '20 25 1 40 25 1 30 35 1 22 50 1 38 50 1'
HEAD = '# a.jpg 640 480\n'
FACE = f'10 10 50 60 {POINTS}\n'


def image(folder: Path, name: str = 'a.jpg', size: tuple[int, int] = (640, 480)) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.zeros((size[1], size[0], 3), np.uint8))


def text(content: str, name: str = 'label.txt') -> Callable[[Path], Path]:
    """Write a label file."""

    def make(root: Path) -> Path:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
        return root / name

    return make


def coco(*rows: dict[str, Any], categories: Any = None, **image_keys: Any) -> Callable:
    images = [{'id': 1, 'file_name': 'a.jpg', 'width': 640, 'height': 480, **image_keys}]
    defaults = dict(image_id=1, category_id=1, bbox=[10, 10, 40, 50])
    table: dict[str, Any] = dict(images=images, annotations=[{**defaults, **row} for row in rows])
    if categories is not None:
        table['categories'] = categories
    return text(json.dumps(table), 'train.json')


def yolo(content: str, yaml: str = '', photo: bool = True) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        text(content, 'labels/a.txt')(root)
        if photo:
            image(root / 'images')
        if yaml:
            (root / 'data.yaml').write_text(yaml)
        return root / 'labels'

    return make


def labelme(*shapes: dict[str, Any], **keys: Any) -> Callable[[Path], Path]:
    table = dict(imagePath='a.jpg', imageWidth=640, imageHeight=480, shapes=list(shapes), **keys)
    return text(json.dumps(table), 'a.json')


def shape(kind: str, label: str, *points: list[float], group: Any = None) -> dict[str, Any]:
    return dict(shape_type=kind, label=label, points=list(points), group_id=group)


def voc(box: str, start: str = '') -> Callable[[Path], Path]:
    names = ('xmin', 'ymin', 'xmax', 'ymax')
    corners = ''.join(f'<{n}>{v}</{n}>' for n, v in zip(names, box.split(), strict=True))
    return text(
        f'{start}<annotation><filename>a.jpg</filename><size><width>640</width>'
        f'<height>480</height></size><object><name>face</name><bndbox>{corners}</bndbox></object>'
        '</annotation>',
        'a.xml',
    )


def with_image(make: Callable, size: tuple[int, int], *names: str) -> Callable[[Path], Path]:
    def both(root: Path) -> Path:
        for name in names or ['a.jpg']:
            image(root / 'images', name, size)
        return make(root)

    return both


def with_broken(make: Callable) -> Callable[[Path], Path]:
    def both(root: Path) -> Path:
        text('no image', 'images/a.jpg')(root)
        return make(root)

    return both


def both_formats(root: Path) -> Path:
    labelme(BOX)(root)
    voc('10 10 50 60')(root)
    return root


TWO = [dict(id=1, name='face'), dict(id=2, name='mask')]
BOX = shape('rectangle', 'face', [10, 10], [50, 60])
FIVE_NAMES = ['nose', 'right_eye', 'left_eye', 'left_mouth', 'right_mouth']
REVERSED = '40 25 1 20 25 1 30 35 1 38 50 1 22 50 1'

#: What makes each mistake. Its kind and message are in mmface/datasets/README.md.
MISTAKES: dict[str, Callable[[Path], Path]] = {
    'shares of the image where pixels are meant': text(HEAD + '0.15 0.2 0.28 0.4\n'),
    'pixels in YOLO labels': yolo('0 100 120 40 50\n'),
    'keypoints as shares, boxes in pixels': text(HEAD + '10 10 50 60 ' + '0.1 0.2 1 ' * 5 + '\n'),
    'x y w h in labelv2': text(HEAD + '40 20 10 12\n'),
    'corners in COCO JSON': coco(*[dict(bbox=[300, 200, 400, 300])] * 5),
    'xmax below xmin': voc('50 10 10 60'),
    'labels of a resized image': with_image(text(HEAD + FACE), (320, 240)),
    'width and height exchanged': with_image(text(HEAD + FACE), (480, 640)),
    'boxes outside of the image': text(HEAD + '10 500 50 600\n'),
    'an image listed twice': text(HEAD + FACE + '# b.jpg 64 48\n' + HEAD + '100 100 150 160\n'),
    'an image listed twice with two sizes': text(HEAD + '# a.jpg 64 48\n'),
    'a file name that begins with a number': with_image(
        text('2020 a.jpg\n1\n10 10 40 50\n2021 b.jpg\n0\n'), (64, 48), '2020 a.jpg', '2021 b.jpg'
    ),
    'backslashes in names': text('# x\\a.jpg 64 48\n'),
    'a slash in front of a name': text('# /x/a.jpg 64 48\n'),
    'a name that leaves the folder': text('# ../x/a.jpg 64 48\n'),
    'a score as the fifth number': text(HEAD + '10 10 50 60 0.93\n'),
    'boxes without area': text(HEAD + FACE + '9 9 9 9\n'),
    'commas between numbers': text(HEAD + '10,10,50,60\n'),
    'another number of keypoints in a row': text(
        HEAD + FACE + '10 10 50 60 ' + '20 25 1 ' * 4 + '\n'
    ),
    'keypoints without names': text(HEAD + '10 10 50 60 ' + '20 25 1 ' * 4 + '\n'),
    "left and right are the person's": text(HEAD + f'10 10 50 60 {REVERSED}\n' * 3),
    'keypoints in another order': coco(
        dict(keypoints=[30, 35, 2, 40, 25, 2, 20, 25, 2, 22, 50, 2, 38, 50, 2]),
        categories=[dict(id=1, name='face', keypoints=FIVE_NAMES)],
    ),
    'a left point without a right one': coco(
        dict(keypoints=[20, 25, 2, 30, 35, 2]),
        categories=[dict(id=1, name='face', keypoints=['left_eye', 'nose'])],
    ),
    'missing keypoints as 0 0 0': text(HEAD + FACE.replace('30 35 1', '0 0 0')),
    'keypoints of another image': text(HEAD + '10 10 50 60 ' + '320 325 1 ' * 5 + '\n'),
    'too many faces in an image': text(
        '# crowd.jpg 640 480\n' + '10 10 20 20\n11 11 21 21\n' * 1001
    ),
    'a class that the file does not have': coco(dict(category_id=7)),
    'a class above the names of data.yaml': yolo('2 0.5 0.5 0.2 0.2\n', 'names: [face, mask]\n'),
    'several classes without names': yolo('1 0.5 0.5 0.2 0.2\n'),
    'a label without its image': yolo('0 0.5 0.5 0.2 0.2\n', photo=False),
    'detections in place of labels': yolo('0 0.5 0.5 0.2 0.2 0.9\n'),
    'polygons in YOLO labels': yolo('0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n'),
    'rows that do not fit kpt_shape': yolo(
        '0 0.5 0.5 0.2 0.2 0.4 0.4 2\n', 'names: [face]\nkpt_shape: [5, 3]\n'
    ),
    'one YOLO text in place of its folder': text('0 0.5 0.5 0.2 0.2\n'),
    'a labelme point outside of every box': labelme(BOX, shape('point', 'nose', [300, 300])),
    'a labelme point given twice': labelme(BOX, *[shape('point', 'nose', [30, 30])] * 2),
    'two labelme boxes in a group': labelme(
        *[{**BOX, 'group_id': 1}] * 2, shape('point', 'nose', [30, 30], group=1)
    ),
    'labelme lines and circles': labelme(BOX, shape('circle', 'face', [1, 2], [3, 4])),
    'XML with entities': voc('10 10 50 60', '<!DOCTYPE a [<!ENTITY e "x">]>'),
    'CreateML JSON': text(
        '[{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {}}]}]', 'c.json'
    ),
    'CSV': text('image_name,width,height,x0,y0,x1,y1\na.jpg,640,480,1,1,8,9\n', 'k.csv'),
    'CVAT XML': text('<annotations><image/></annotations>', 'c.xml'),
    'an image that is not there': with_image(text('# b.jpg\n10 10 40 50\n'), (640, 480)),
    'two formats in a folder': both_formats,
    'sizes in the header as floats': text('# a.jpg 640.0 480.0\n' + FACE),
    'five keypoints without flags': text(HEAD + '10 10 50 60 20 25 40 25 30 35 22 50 38 50\n'),
    'an image that cannot be read': with_broken(text('# a.jpg\n10 10 40 50\n')),
    'a class that --category misspells': coco({}, categories=TWO),
    'classes that are not chosen': coco({}, dict(category_id=2), categories=TWO),
}
OPTIONS = {
    'a class that --category misspells': ['--category', 'fase'],
    'classes that are not chosen': ['--category', 'face'],
}


def documented() -> dict[str, tuple[str, str]]:
    """Return kind and message of each mistake in the table of the page."""
    page = (REPO / 'mmface/datasets/README.md').read_text()
    table = page[page.index('| mistake |') :].splitlines()[2:]
    rows = [[cell.strip() for cell in row.strip('|').split('|')] for row in table]
    return {name: (kind, message) for name, kind, message in rows}


@pytest.mark.parametrize('name', MISTAKES)
def test_mistake__gives_the_documented_message(name, tmp_path, monkeypatch, capsys):
    kind, message = documented()[name]
    pattern = '.*'.join(map(re.escape, message.split('…')))
    out = tmp_path / 'out/out.json'
    options = OPTIONS.get(name, [])
    monkeypatch.setattr('sys.argv', ['labels', str(MISTAKES[name](tmp_path)), str(out), *options])
    if kind == 'error':
        with pytest.raises((ValueError, FileNotFoundError), match=pattern) as caught:
            convert.main()
        assert str(tmp_path) in str(caught.value)
        assert not out.exists()
        return
    convert.main()
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith('note: ')]
    assert all(str(tmp_path) in line for line in notes)
    assert [bool(re.search(pattern, line)) for line in notes] == ([] if kind == 'none' else [True])
    assert len(json.loads(out.read_text())['images']) >= 1


def test_page__lists_every_mistake():
    assert set(documented()) == set(MISTAKES)
    assert len(MISTAKES) >= 30


def test_good_labels__have_no_notes(tmp_path):
    row = '0 0.5 0.5 0.2 0.2\n'
    for make in (text(HEAD + FACE), coco({}), yolo(row), labelme(BOX), voc('10 10 50 60')):
        assert read_annotations(make(tmp_path)).notes == ()
