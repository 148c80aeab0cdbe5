# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of mmface/apis/detect/images.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmface.apis.detect.images import NETWORK_FAILS, UNDECODABLE, do_images
from mmface.apis.detect.render import MarkFaces
from mmface.apis.detect.results import Results
from mmface.structures import Face
from mmface.utils.progress import progress_bar
from mmface.utils.sources import find_sources

ROUNDS = int(os.environ.get('MMFACE_ROUNDS', '2'))


def find_faces(images):
    """Stand for a network: one face per image, that depends on its pixels; dark images fail."""
    found = []
    for image in images:
        if image.mean() < 20:
            raise RuntimeError('too dark')
        time.sleep(int(image[0, 0, 0]) % 4 / 1000)  # images finish in another order
        x, y = (int(v) % 20 for v in image[0, 0, :2])
        found.append([Face(np.array([x, y, x + 9, y + 9], np.float32), float(image.mean() / 256))])
    return found


@pytest.fixture(scope='module')
def album(tmp_path_factory):
    """Write images of several formats, with damaged and dark ones in between."""
    folder = tmp_path_factory.mktemp('in') / 'album'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(60):
        image = rng.integers(0, 256, (rng.integers(30, 90), rng.integers(30, 90), 3), np.uint8)
        if number % 10 == 3:
            image //= 32
        suffix = ('.jpg', '.png', '.webp')[number % 3]
        content = cv2.imencode(suffix, image)[1].tobytes()
        if number % 10 == 7:
            content = content[: len(content) // 2]
        (folder / f'{number:02}{suffix}').write_bytes(content)
    damaged = bytearray((folder / '00.jpg').read_bytes())
    damaged[len(damaged) // 2] = 0xFF
    damaged[len(damaged) // 2 + 1] = 0xD3
    (folder / '00.jpg').write_bytes(damaged)
    return folder


def _run(album, out, **options):
    results = Results(out, ['model'], {}, MarkFaces(), json=True)
    results.begin()
    sources = find_sources([album]).sources
    with progress_bar(total=len(sources)) as bar:
        return do_images(sources, results, find_faces, bar, **options)


def _contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*.*')}


@pytest.mark.parametrize('concurrent', [True, False])
@pytest.mark.parametrize('batch_size', [1, 4])
def test_do_images__parallel_as_sequential(batch_size, concurrent, album, tmp_path):
    options = {'batch_size': batch_size, 'concurrent': concurrent}
    report = _run(album, tmp_path / 'sequential', **options)
    reasons = [item.reason for item in report.skipped]
    assert (reasons.count(NETWORK_FAILS), reasons.count(UNDECODABLE)) == (6, 6)
    assert (report.done, report.faces, len(report.damaged)) == (48, 48, 1)
    expected = _contents(tmp_path / 'sequential')
    assert len(expected) == 2 * 48 + 1
    for number in range(ROUNDS):
        out = tmp_path / str(number)
        assert _run(album, out, workers=3, **options) == report
        assert _contents(out) == expected


def test_do_images__a_result_that_cannot_be_written_ends_the_run(album, tmp_path):
    out = tmp_path / 'out'
    (out / 'album' / '20.webp').mkdir(parents=True)  # a folder where a result should be
    with pytest.raises(OSError, match=r'20\.webp'):
        _run(album, out, workers=3, concurrent=True)
    assert not list(out.rglob('.*'))


INTERRUPTED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
sys.path[:0] = [{here!r}]
from test_images import _run
from pathlib import Path
try:
    _run(Path(sys.argv[1]), Path(sys.argv[2]), workers=3, concurrent=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_do_images__ctrl_c_leaves_whole_files(album, tmp_path):
    _run(album, tmp_path / 'whole')
    expected = _contents(tmp_path / 'whole')
    code = INTERRUPTED.format(here=str(Path(__file__).parent))
    out = tmp_path / 'out'
    run = subprocess.Popen([sys.executable, '-c', code, str(album), str(out)], cwd=Path.cwd())
    until = time.monotonic() + 120
    while time.monotonic() < until and len(list(out.glob('album/*'))) < 5:
        time.sleep(0.002)
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=120) == 130
    written = _contents(out)
    assert not [path for path in written if path.name.startswith('.')]
    assert all(expected[path] == content for path, content in written.items())
