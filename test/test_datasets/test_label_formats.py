# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The same faces written in seven formats are read as the same annotations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np
import pytest

from helpers import REPO
from mmface.datasets.annotations import read_annotations
from mmface.datasets.coco_json import coco_text
from mmface.datasets.face_annotation import FaceAnnotation, LabelSet
from mmface.structures import FIVE_KEYPOINTS, KeypointScheme
from mmface.utils.images import image_size


def numbers(values: np.ndarray) -> list[str]:
    return [repr(v) for v in np.asarray(values, np.float64).ravel().tolist()]


def sides(image: FaceAnnotation) -> np.ndarray:
    boxes = image.bboxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def flagged(points: np.ndarray) -> np.ndarray:
    """Return (K, 3) points with the flags of the text formats."""
    return np.where(points[:, 2:] > 0, points, -1)


def write_labelv2(labels: LabelSet, root: Path) -> Path:
    lines = []
    for image in labels.images:
        lines.append(f'# {image.path} {image.width} {image.height}')
        for box, points in zip(image.bboxes, image.keypoints, strict=True):
            lines.append(' '.join([*numbers(box), *numbers(flagged(points))]))
    (root / 'labelv2.txt').write_text('\n'.join(lines))
    return root / 'labelv2.txt'


def write_retinaface(labels: LabelSet, root: Path) -> Path:
    lines = []
    blur = ['0.5'] if len(labels.keypoints) == 5 else []
    for image in labels.images:
        lines.append(f'# {image.path}')
        for box, points in zip(sides(image), image.keypoints, strict=True):
            lines.append(' '.join([*numbers(box), *numbers(flagged(points)), *blur]))
    (root / 'label.txt').write_text('\n'.join(lines))
    return root / 'label.txt'


def write_bbx_gt(labels: LabelSet, root: Path) -> Path:
    lines = []
    for image in labels.images:
        lines += [image.path, str(len(image.bboxes))]
        lines += [' '.join([*numbers(box), *'000000']) for box in sides(image)]
    (root / 'bbx_gt.txt').write_text('\n'.join(lines))
    return root / 'bbx_gt.txt'


def write_coco(labels: LabelSet, root: Path) -> Path:
    (root / 'train.json').write_text(coco_text(labels))
    return root / 'train.json'


def write_yolo(labels: LabelSet, root: Path) -> Path:
    for image in labels.images:
        size = np.array([image.width, image.height] * 2, np.float64)
        rows = []
        for box, points in zip(image.bboxes.astype(np.float64), image.keypoints, strict=True):
            middle = np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])
            shown = points.astype(np.float64) / (image.width, image.height, 0.5)
            shown[points[:, 2] == 0] = 0
            rows.append(' '.join(['0', *numbers(middle / size), *numbers(shown)]))
        file = root / 'labels' / Path(image.path).with_suffix('.txt')
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('\n'.join(rows))
    count = len(labels.keypoints)
    (root / 'data.yaml').write_text(f'names:\n  0: face\nkpt_shape: [{count}, 3]\n')
    return root / 'labels'


def write_labelme(labels: LabelSet, root: Path) -> Path:
    for image in labels.images:
        shapes = []
        for number, box in enumerate(image.bboxes.tolist()):
            # Drawn from the lower right to the upper left corner.
            corners = [[box[2], box[3]], [box[0], box[1]]]
            shapes.append(dict(label='face', points=corners, shape_type='rectangle'))
            for name, point in zip(
                labels.keypoints.names, image.keypoints[number].tolist(), strict=True
            ):
                if point[2]:
                    shapes.append(dict(label=name, points=[point[:2]], shape_type='point'))
            for shape in shapes:
                shape.setdefault('group_id', number)
        table = dict(shapes=shapes, imagePath=Path(image.path).name, imageData=None)
        table |= dict(imageWidth=image.width, imageHeight=image.height)
        file = root / 'labelme' / Path(image.path).with_suffix('.json')
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(table))
    return root / 'labelme'


def write_voc(labels: LabelSet, root: Path) -> Path:
    for image in labels.images:
        event, _, name = image.path.rpartition('/')
        objects = ''
        for box in image.bboxes:
            x1, y1, x2, y2 = numbers(box)
            objects += (
                f'<object><name>face</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>'
                f'<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>'
            )
        file = root / 'Annotations' / f'{Path(name).stem}.xml'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f'<?xml version="1.0"?><annotation><folder>{escape(event)}</folder>'
            f'<filename>{escape(name)}</filename><size><width>{image.width}</width>'
            f'<height>{image.height}</height></size>{objects}</annotation>'
        )
    return root / 'Annotations'


WRITERS: dict[str, Callable[[LabelSet, Path], Path]] = {
    'labelv2': write_labelv2,
    'retinaface': write_retinaface,
    'bbx_gt': write_bbx_gt,
    'coco': write_coco,
    'yolo': write_yolo,
    'labelme': write_labelme,
    'voc': write_voc,
}
BOXES_ONLY = ('bbx_gt', 'voc')
WITHOUT_SIZES = ('bbx_gt', 'retinaface')


def drawn(root: Path, keypoints: KeypointScheme = FIVE_KEYPOINTS) -> LabelSet:
    """Write small images and return labels for them."""
    rng = np.random.default_rng(0)
    images = []
    for number, faces in enumerate((2, 1, 0, 5)):
        path, (width, height) = f'{number}--Event/{number} a&b.jpg', rng.integers(60, 90, 2)
        (root / 'images' / path).parent.mkdir(parents=True)
        cv2.imwrite(str(root / 'images' / path), np.zeros((height, width, 3), np.uint8))
        corners = rng.uniform(1, 25, (faces, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (faces, 2))], axis=1)
        points = rng.uniform(corners[:, None] - 1, boxes[:, None, 2:], (faces, len(keypoints), 2))
        points = np.concatenate([np.sort(points, axis=1), np.ones((*points.shape[:2], 1))], axis=2)
        points[:1, 2:3] = (-1, -1, 0)
        images.append(
            FaceAnnotation(
                path, int(width), int(height), boxes.astype(np.float32),
                points.astype(np.float32), np.zeros(faces, bool), np.zeros(faces, np.int64),
            )
        )  # fmt: skip
    return LabelSet(images, keypoints=keypoints)


def check(fmt: str, labels: LabelSet, root: Path) -> None:
    """Write ``labels`` in a format, read them, and compare."""
    found = read_annotations(WRITERS[fmt](labels, root), images=root / 'images')
    assert found.classes == ('face',)
    got = {image.path: image for image in found.images}
    assert got.keys() == {image.path for image in labels.images}
    for image in labels.images:
        other = got[image.path]
        assert (other.width, other.height) == (
            (0, 0) if fmt in WITHOUT_SIZES else (image.width, image.height)
        )
        np.testing.assert_array_equal(other.bboxes, image.bboxes)
        if fmt not in BOXES_ONLY:
            np.testing.assert_array_equal(other.keypoints, image.keypoints)
            assert found.keypoints.flip_indices == labels.keypoints.flip_indices
        assert not other.ignore.any()


@pytest.mark.parametrize('fmt', WRITERS)
def test_same_faces__in_seven_formats(fmt, tmp_path):
    check(fmt, drawn(tmp_path), tmp_path)


@pytest.mark.parametrize('fmt', ['coco', 'labelme'])
@pytest.mark.parametrize(
    ('names', 'flip'),
    [
        (('chin', 'eye_l', 'eye_r'), (0, 2, 1)),
        (tuple(f'p{k:02d}' for k in range(68)), tuple(range(68))),
    ],
)
def test_same_faces__with_other_keypoints(fmt, names, flip, tmp_path):
    check(fmt, drawn(tmp_path, KeypointScheme(names, flip)), tmp_path)


@pytest.mark.parametrize('fmt', ['labelv2', 'retinaface', 'yolo'])
@pytest.mark.parametrize('count', [4, 68, 98])
def test_same_faces__with_keypoints_without_names(fmt, count, tmp_path):
    check(fmt, drawn(tmp_path, KeypointScheme((), tuple(range(count)))), tmp_path)


@pytest.mark.reference
@pytest.mark.parametrize('fmt', WRITERS)
def test_real_faces__in_seven_formats(fmt, reference_dir, tmp_path):
    """40 real images with keypoints, whose labels are written in each format."""
    wider = reference_dir / 'data/wider'
    labels = read_annotations(wider / 'annotations/labelv2_train_part.txt')
    chosen = [image.where(image.has_area) for image in labels.images[:40]]
    for image in chosen:
        link = tmp_path / 'images' / image.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(wider / 'WIDER_train/images' / image.path)
        assert image_size(link) == (image.width, image.height)
    check(fmt, LabelSet(chosen), tmp_path)


BLOCKED = ('torch', 'mmcv', 'mmdet', 'mmengine')


def test_readers__need_neither_torch_nor_mm(tmp_path):
    """The converter runs where those packages cannot be imported, for every format."""
    labels = drawn(tmp_path)
    block = ''.join(f'sys.modules[{name!r}] = None\n' for name in BLOCKED)
    sources = [str(write(labels, tmp_path)) for write in WRITERS.values()]
    code = (
        f'import sys\n{block}from mmface.cli import labels, prepare\n'
        f'for source in {sources}:\n'
        f'    sys.argv = ["labels", source, "out.json", "--images", {str(tmp_path / "images")!r}]\n'
        '    labels.main()\n'
        'import mmface.datasets.prepare\n'
        'try:\n    from mmface.datasets import WiderFaceDataset\n'
        'except ModuleNotFoundError as error:\n    print("needs", error.name)\n'
        f'print([name for name in {BLOCKED} if sys.modules[name] is not None])\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={'PYTHONPATH': str(REPO), 'PATH': ''},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *converted, needs, imported = done.stdout.splitlines()
    assert len([line for line in converted if '4 images, 8 faces' in line]) == len(sources)
    assert needs.startswith('needs ')
    assert imported == '[]'
