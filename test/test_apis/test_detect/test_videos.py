# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of detection in videos, from file to file."""

from __future__ import annotations

import json
import subprocess
import sys

import av
import numpy as np
import pytest

from mmface.apis.detect.render import HideFaces, MarkFaces
from mmface.apis.detect.videos import Gaps, do_video
from mmface.apis.video.base import Frame
from mmface.apis.video.open import open_source
from mmface.apis.video.reader import VideoReader
from mmface.apis.video.writer import open_video
from mmface.structures import Face
from mmface.toys.faces import ToyFace
from mmface.toys.portrait import draw_person

SIZE = (240, 320)
COUNT = 60


def _paste(image, face):
    patch, _, (x, y) = draw_person(face, image.shape[0])
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + patch.shape[0], image.shape[0]), min(x + patch.shape[1], image.shape[1])
    part = patch[top - y : bottom - y, left - x : right - x]
    share = 1 - part[..., 3:] / 255
    image[top:bottom, left:right] = image[top:bottom, left:right] * share + part[..., :3]


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Draw a video of two moving people. Return its path and the face boxes of each frame."""
    path = tmp_path_factory.mktemp('drawn') / 'people.mp4'
    colours = dict.fromkeys(('skin', 'hair', 'iris', 'lips', 'shirt', 'extra'), (90, 120, 180))
    truth = []
    with open_video(path, 25, SIZE[::-1]) as video:
        for number in range(COUNT):
            image = np.full((*SIZE, 3), 120, np.float32)
            centres = (60 + 3 * number, 70), (270 - 2.5 * number, 150)
            faces = [ToyFace(centre, 40, colours=colours, hair='bald') for centre in centres]
            for face in faces:
                _paste(image, face)
            truth.append(np.array([face.box() for face in faces], np.float32))
            video.write(Frame(number, number / 25, image.clip(0, 255).astype(np.uint8)))
    return path, truth


def _flickering(truth):
    """Return a detector that misses 40 % of the faces, in gaps of up to 8 frames."""
    rng = np.random.default_rng(0)
    seen = np.ones((COUNT, 2), bool)
    for person in range(2):
        for start in rng.integers(0, COUNT, 8):
            seen[start : start + rng.integers(1, 9), person] = False
    assert 0.3 < 1 - seen.mean() < 0.6
    frames = iter(zip(truth, seen, strict=True))

    def detect(images):
        rows = [next(frames) for _ in images]
        return [[Face(box, 0.3) for box in boxes[there]] for boxes, there in rows]

    return detect


def _share_visible(path, truth):
    visible = []
    for frame, boxes in zip(VideoReader(path), truth, strict=True):
        for x1, y1, x2, y2 in boxes.astype(int):
            visible.append((frame.image[y1:y2, x1:x2].max(axis=2) < 40).mean() < 0.9)
    return np.mean(visible)


def _run(path, out, detect, gaps, render=None, lines=False, batch=1, workers=1):
    targets = [out, out.with_suffix('.jsonl')] if lines else [out]
    source = open_source(path)
    line = do_video(
        source, 'people.mp4', targets, detect, batch, render or MarkFaces(), gaps, workers
    )
    source.close()
    return line


def test_do_video__hides_faces_where_they_were_missed(drawn, tmp_path):
    """At the same threshold, at least five times fewer faces stay visible."""
    path, truth = drawn
    share = {}
    for hide in (False, True):
        out = tmp_path / f'{hide}.mp4'
        line = _run(path, out, _flickering(truth), Gaps(hide=hide), HideFaces('solid'), batch=4)
        share[hide] = _share_visible(out, truth)
        assert ('more places hidden' in line) == hide
    assert share[False] > 0.3
    assert share[True] < share[False] / 5


def _fading(truth):
    """Return a detector whose scores fall below 0.2 in frames 10 to 49, with a false box beside."""
    frames = iter(enumerate(truth))

    def detect(images):
        found = []
        for number, boxes in (next(frames) for _ in images):
            score = 0.06 if 10 <= number < 50 else 0.4
            found.append([Face(box, score) for box in boxes])
            found[-1].append(Face(np.array([280, 10, 310, 40], np.float32), 0.19))
        return found

    return detect


def test_do_video__low_scores_keep_faces_hidden(drawn, tmp_path):
    """Faces stay hidden for much longer than a gap may last; a weak box alone is not hidden."""
    path, truth = drawn
    out = tmp_path / 'a.mp4'
    gaps = Gaps(max_gap=5, hide=True, hold=2, score_thr=0.2)
    line = _run(path, out, _fading(truth), gaps, HideFaces('solid'), lines=True)
    assert ', 120 faces (80 below the threshold), ' in line
    # In the first and last two of these frames, also where the better sightings lead.
    assert ', 8 more places hidden' in line
    assert _share_visible(out, truth) == 0
    corner = [frame.image[10:40, 280:310].mean() for frame in VideoReader(out)]
    assert min(corner) > 100
    lines = [json.loads(line) for line in out.with_suffix('.jsonl').open()]
    assert [len(line['faces']) for line in lines] == [2] * COUNT
    assert {face['score'] for face in lines[30]['faces']} == {0.06}
    assert {face['track'] for line in lines for face in line['faces']} == {0, 1}


def test_gaps__a_lower_threshold_only_where_faces_are_hidden():
    assert Gaps(score_thr=0.5).detector_thr == 0.5
    assert Gaps(score_thr=0.5, hide=True).detector_thr == 0.125
    assert Gaps(score_thr=0.1, hide=True).detector_thr == 0.05
    assert Gaps(score_thr=0.01, hide=True).detector_thr == 0.01


@pytest.mark.parametrize(('batch', 'workers'), [(1, 0), (3, 1), (2, 2)])
def test_do_video__the_same_however_the_work_is_done(batch, workers, drawn, tmp_path):
    path, _ = drawn

    def detect(images):
        return [[Face(np.array([i, i, i + 9, i + 9], np.float32), 0.5)] for i in map(_key, images)]

    lines, frames = [], []
    for name, how in (('a', (1, 1)), ('b', (batch, workers))):
        out = tmp_path / f'{name}.mp4'
        _run(path, out, detect, Gaps(), lines=True, batch=how[0], workers=how[1])
        lines.append(out.with_suffix('.jsonl').read_bytes())
        frames.append(list(VideoReader(out)))
    assert lines[0] == lines[1]
    # libx264 itself does not always write the same bytes for the same frames.
    for one, two in zip(*frames, strict=True):
        assert one.seconds == two.seconds
        assert np.abs(one.image.astype(int) - two.image).mean() < 1


def _key(image):
    return int(image.mean())


def test_do_video__lines_have_tracks_names_and_times(drawn, tmp_path):
    path, truth = drawn
    out = tmp_path / 'a.mp4'
    _run(path, out, _flickering(truth), Gaps(), lines=True)
    lines = [json.loads(line) for line in out.with_suffix('.jsonl').open()]
    assert [line['frame'] for line in lines] == list(range(COUNT))
    assert {line['video'] for line in lines} == {'people.mp4'}
    assert lines[25]['seconds'] == 1.0
    # The two people cross and keep their numbers, one number each.
    tracks = {}
    for line, boxes in zip(lines, truth, strict=True):
        for face in line['faces']:
            person = int(np.abs(boxes - face['bbox']).sum(axis=1).argmin())
            tracks.setdefault(person, set()).add(face['track'])
    assert sorted(map(len, tracks.values())) == [1, 1]
    assert tracks[0] != tracks[1]


def test_do_video__says_what_is_unusual(tmp_path):
    path = tmp_path / 'odd.mkv'
    with av.open(str(path), 'w') as out:
        stream = out.add_stream('ffv1', rate=25)
        stream.width, stream.height, stream.pix_fmt = 65, 47, 'bgr0'
        for grey in range(10):
            image = np.full((47, 65, 3), 20 * grey, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='bgr24')))
        out.mux(stream.encode(None))
    line = _run(path, tmp_path / 'a.mp4', lambda images: [[] for _ in images], Gaps())
    assert '10 frames, 0 faces' in line
    assert 'an odd side is one pixel longer' in line


def test_do_video__without_pyav_one_line_says_what_to_install(repo, drawn, tmp_path):
    path, _ = drawn
    code = (
        'import sys\nsys.modules["av"] = None\n'
        'from pathlib import Path\n'
        'from mmface.apis.detect.videos import Gaps, VideoJob, do_videos\n'
        f'job = VideoJob(Path({str(path)!r}), [Path({str(tmp_path / "a.mp4")!r})], "people.mp4")\n'
        'print(do_videos([job], None, None, 1, Gaps()))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=repo, timeout=600
    )
    assert 'this needs the package av: pip install "mmface[video]"' in done.stdout, done.stderr
