# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Labels are converted from one format to another and back, or the tool names what is missing."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from mmface.datasets.annotations import read_annotations

TOOL = 'tools/data/convert_labels.py'
POINTS = '20.5 25 0 40 25 1 30 35 0 -1 -1 -1 38 50 1'
SIZES = {'a/1.jpg': (64, 48), 'a/2.jpg': (80, 60), 'b/3.jpg': (50, 70)}


@pytest.fixture
def root(tmp_path):
    """Write the same faces as RetinaFace's label.txt and as labelv2, with their images."""
    for path, (width, height) in SIZES.items():
        file = tmp_path / 'images' / path
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.zeros((height, width, 3), np.uint8))
    (tmp_path / 'label.txt').write_text(
        f'# a/1.jpg\n10 10 40.25 50 {POINTS} 0.9\n1 1 8 8 {" ".join(["-1"] * 15)} 0.1\n70 1 5 5\n'
        '# a/2.jpg\n20 20 0 20\n# b/3.jpg\n3 3 7 7\n'
    )
    (tmp_path / 'labelv2.txt').write_text(
        f'# a/1.jpg 64 48\n10 10 50.25 60 {POINTS}\n1 1 9 9 0\n'
        '# a/2.jpg 80 60\n# b/3.jpg 50 70\n3 3 10 10 1\n'
    )
    return tmp_path


def same(left, right):
    left, right = read_annotations(left).images, read_annotations(right).images
    assert len(left) == len(right)
    for mine, other in zip(left, right, strict=True):
        assert mine[:3] == other[:3]
        for a, b in zip(mine[3:], other[3:], strict=True):
            np.testing.assert_array_equal(a, b)


def test_retinaface_to_json__sizes_come_from_the_images(run_tool, root):
    done = run_tool(TOOL, root / 'label.txt', root / 'out/train.json')
    assert '3 images, 3 faces, 1 of them with keypoints; 2 boxes without area' in done.stdout
    table = json.loads((root / 'out/train.json').read_text())
    sizes = {image['file_name']: (image['width'], image['height']) for image in table['images']}
    assert sizes == SIZES
    assert table['annotations'][0]['bbox'] == [10, 10, 40.25, 50]
    assert table['annotations'][0]['keypoints'][9:12] == [0, 0, 0]


def test_labelv2_to_json_and_back(door, root):
    door(TOOL, root / 'labelv2.txt', root / 'train.json')
    same(root / 'labelv2.txt', root / 'train.json')
    door(TOOL, root / 'train.json', root / 'again.txt')
    same(root / 'labelv2.txt', root / 'again.txt')
    door(TOOL, root / 'again.txt', root / 'again.json')
    assert (root / 'again.json').read_text() == (root / 'train.json').read_text()


def test_images__are_named_or_beside_the_labels(door, root):
    (root / 'images').rename(root / 'elsewhere')
    done = door(TOOL, root / 'label.txt', root / 'x.json', ok=False)
    assert done.returncode == 2
    error = done.stderr.strip().splitlines()[-1]
    assert 'does not contain the sizes of 3 images' in error
    assert '--images' in error
    door(TOOL, root / 'label.txt', root / 'x.json', '--images', root / 'elsewhere')
    assert read_annotations(root / 'x.json').images[2].width == 50
    # If the labels contain the sizes, no image is needed.
    door(TOOL, root / 'labelv2.txt', root / 'y.json')


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['label.txt', 'x.xml'], 'ending in .json or .txt'),
        (['label.txt', 'label.txt'], 'is the source file'),
        (['none.txt', 'x.json'], 'none.txt does not exist'),
        (['label.txt', 'x.json', '--images', 'nowhere'], 'nowhere does not exist'),
        (['labelv2.txt', 'x.json', '--images', 'nowhere'], 'nowhere does not exist'),
        (['label.txt', 'x.json', '--format', 'coco'], 'expected COCO-style JSON'),
    ],
)
def test_wrong_input__is_one_line(door, root, args, message):
    args = [a if a.startswith('--') or a == 'coco' else root / a for a in args]
    done = door(TOOL, *args, ok=False)
    assert done.returncode == 2
    assert message in done.stderr.strip().splitlines()[-1]
    assert not (root / 'x.json').exists()


def test_wrong_images__are_named(door, root):
    (root / 'images/a/2.jpg').write_bytes(b'no image')
    done = door(TOOL, root / 'label.txt', root / 'x.json', ok=False)
    assert 'a/2.jpg, listed in' in done.stderr
    assert 'cannot be read' in done.stderr
    (root / 'images/a/2.jpg').unlink()
    done = door(TOOL, root / 'label.txt', root / 'x.json', ok=False)
    assert 'a/2.jpg, listed in' in done.stderr
    assert 'does not exist' in done.stderr
    (root / 'label.txt').write_text('# a/1.jpg\n# b/3.jpg\n# a/1.jpg\n')
    done = door(TOOL, root / 'label.txt', root / 'x.json')
    assert "listed again, the first in line 3: 'a/1.jpg'" in done.stdout
    assert '2 images, 0 faces' in done.stdout


@pytest.mark.reference
def test_real_labels(door, reference_dir, tmp_path):
    source = reference_dir / 'data/wider/annotations/labelv2_train_part.txt'
    done = door(TOOL, source, tmp_path / 'train_wider_face.json')
    assert '600 images, 6,323 faces, 4,144 of them with keypoints' in done.stdout
    same(source, tmp_path / 'train_wider_face.json')
