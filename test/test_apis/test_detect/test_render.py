# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of hiding faces, and of the user's own boxes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmface.apis.detect.base import describe
from mmface.apis.detect.own_boxes import OwnBoxes
from mmface.apis.detect.render import HideFaces, MarkFaces
from mmface.structures import Face


def _face(x1, y1, x2, y2):
    return Face(np.array([x1, y1, x2, y2], np.float32), 0.9)


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(1, 256, (200, 300, 3), np.uint8)


def _write(path, *lines):
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return OwnBoxes(path)


def _boxes(*boxes):
    return [{'bbox': list(box)} for box in boxes]


def test_own_boxes__names_and_frames(tmp_path):
    own = _write(
        tmp_path / 'own.jsonl',
        {'image': 'a.jpg', 'faces': _boxes((1, 2, 3, 4))},
        {'video': 'sub/b.mp4', 'frame': 3, 'faces': _boxes((2, 2, 3, 4), (3, 2, 3, 4))},
        {'video': 'sub/b.mp4', 'faces': _boxes((4, 2, 4, 4))},
        {'frame': 3, 'faces': _boxes((5, 2, 6, 4))},
        {'faces': _boxes((6, 2, 6, 4))},
    )
    assert own.of('a.jpg')[:, 0].tolist() == [1, 6]
    assert own.of('sub/b.mp4', 3)[:, 0].tolist() == [2, 3, 4, 5, 6]
    assert own.of('sub/b.mp4', 4)[:, 0].tolist() == [4, 6]
    assert own.of('c.mp4', 3)[:, 0].tolist() == [5, 6]
    own.check(['a.jpg', 'sub/b.mp4', 'c.mp4'])
    with pytest.raises(ValueError, match=r"own\.jsonl: no input has the name 'sub/b\.mp4'"):
        own.check(['a.jpg', 'b.mp4'])


def test_own_boxes__reads_what_json_writes(tmp_path, noise):
    (tmp_path / 'a.json').write_text(describe(noise, [_face(1, 2, 30, 40)], image='a.jpg'))
    line = describe(noise, [_face(5, 6, 70, 80)], [0], video='b.mp4', frame=2, seconds=0.08)
    joined = tmp_path / 'all.jsonl'
    joined.write_text((tmp_path / 'a.json').read_text() + line)
    own = OwnBoxes(joined)
    assert own.of('a.jpg').tolist() == [[1, 2, 30, 40]]
    assert own.of('b.mp4', 2).tolist() == [[5, 6, 70, 80]]
    assert len(own.of('b.mp4', 1)) == 0


@pytest.mark.parametrize(
    'line',
    [
        '[]',
        '{}',
        'text',
        '{"faces": [[1, 2, 3, 4]]}',
        '{"faces": [{"bbox": [1, 2, 3]}]}',
        '{"faces": [{"bbox": [9, 2, 3, 4]}]}',
        '{"faces": [{"bbox": [1, 2, NaN, 4]}]}',
        '{"faces": [], "image": 3}',
        '{"faces": [], "frame": "3"}',
        '{"faces": 3}',
    ],
)
def test_own_boxes__bad_lines_are_named(line, tmp_path):
    path = tmp_path / 'own.jsonl'
    path.write_text('{"faces": []}\n\n' + line)
    with pytest.raises(ValueError, match=r'own\.jsonl:3: found .* expected one JSON object a line'):
        OwnBoxes(path)
    with pytest.raises(FileNotFoundError, match='expected a file of boxes'):
        OwnBoxes(tmp_path / 'none.jsonl')


def test_hide__own_boxes_are_added_and_kept_faces_stay(tmp_path, noise):
    boxes = _write(tmp_path / 'b.jsonl', {'image': 'a.jpg', 'faces': _boxes((200, 100, 220, 120))})
    keep = _write(tmp_path / 'k.jsonl', {'image': 'a.jpg', 'faces': _boxes((90, 40, 140, 90))})
    faces = [_face(20, 20, 40, 40), _face(100, 50, 130, 80)]
    render = HideFaces('solid', margin=0, boxes=boxes, keep=keep)
    hidden = render(noise, faces, 'a.jpg')
    assert not hidden[20:40, 20:40].any()
    assert not hidden[100:120, 200:220].any()
    np.testing.assert_array_equal(hidden[50:80, 100:130], noise[50:80, 100:130])
    other = render(noise, faces, 'b.jpg')
    assert not other[50:80, 100:130].any()
    np.testing.assert_array_equal(other[100:120, 200:220], noise[100:120, 200:220])


def test_mark__is_a_copy(noise):
    marked = MarkFaces()(noise, [_face(20, 20, 60, 60)], 'a.jpg', 3)
    assert not np.array_equal(marked, noise)
    assert marked is not noise
