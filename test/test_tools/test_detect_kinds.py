# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""tools/detect.py accounts for every file of a folder."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import signal

import cv2
import numpy as np
import pytest

from file_zoo import DONE, PILLOW, make_file_zoo
from mmface.apis.video.animation import AnimationReader
from mmface.datasets.annotations import read_annotations
from mmface.utils.images import image_size, read_image

pytest.importorskip('onnxruntime')
pytest.importorskip('onnx')
TOOL = 'tools/detect.py'
HEIF = importlib.util.find_spec('pillow_heif') is not None


@pytest.fixture
def no_handler():
    """Keep the handler of SIGTERM unchanged."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope='module')
def picture():
    """Return an image of 128x96 with soft colours."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(small, (128, 96), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope='module')
def zoo(picture, tmp_path_factory):
    folder = tmp_path_factory.mktemp('kinds') / 'zoo'
    folder.mkdir()
    return folder, make_file_zoo(folder, picture, HEIF)


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """Write a toy network that finds faces in any image."""
    from mmface_benchmark.toy_onnx import write_toy_centerface

    return write_toy_centerface(tmp_path_factory.mktemp('network') / 'toy.onnx')


@pytest.mark.usefixtures('no_handler')
@pytest.mark.parametrize('blur', [False, True])
def test_detect__every_file_is_done_or_named(blur, door, zoo, network, picture, tmp_path):
    folder, expected = zoo
    assert len(expected) >= 30
    out = tmp_path / 'out'
    options = ['--model', network, '--out', out, '--score-thr', 0.3, *['--blur'] * blur]
    done = door(TOOL, folder, *options, ok=False)
    assert done.returncode == 1  # some cannot be decoded
    assert 'Traceback' not in done.stderr
    with (out / 'skipped.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    reasons = {row['path'].rpartition('/')[2]: row['reason'] for row in rows}
    assert reasons == {name: reason for name, reason in expected.items() if reason != DONE}
    # The summary adds up: both pages of the TIFF file count.
    numbers = re.search(r'(\d+) inputs: (\d+) done, (\d+) skipped \((.*)\)', done.stdout)
    inputs, ready, skipped = map(int, numbers.groups()[:3])
    assert inputs == ready + skipped == len(expected) + 1
    assert skipped == len(rows)
    assert sum(int(part.split()[0]) for part in numbers[4].split(', ')) == skipped

    for name, result in expected.items():
        if result == DONE:
            _check_result(name, out / 'zoo', picture)
    options.append('--allow-skipped')
    assert door(TOOL, folder, *options).returncode == 0


def _check_result(name, folder, picture):
    """Check that the result of a file shows what the file shows, apart from the faces."""
    if name.startswith('moving'):
        (path,) = folder.glob(f'{name}.mp4')
        assert image_size(folder / 'plain.png') == (128, 96)
        assert path.stat().st_size > 1000
        return
    stem, _, suffix = name.rpartition('.')
    names = [f'{stem}.page1.{suffix}', f'{stem}.page2.{suffix}'] if stem == 'pages' else [name]
    for each in names:
        (path,) = [p for p in (folder / each, folder / f'{each}.png') if p.is_file()]
        assert read_image(path).shape == picture.shape


@pytest.mark.usefixtures('no_handler')
@pytest.mark.parametrize('allowed', [False, True])
def test_detect__blur_fails_if_any_file_is_left_out(allowed, door, network, picture, tmp_path):
    (tmp_path / 'in').mkdir()
    cv2.imwrite(str(tmp_path / 'in/a.png'), picture)
    (tmp_path / 'in/notes.txt').write_text('text')
    args = [tmp_path / 'in', '--model', network, '--out']
    assert door(TOOL, *args, tmp_path / 'marked').returncode == 0
    options = ['--blur', *['--allow-skipped'] * allowed]
    done = door(TOOL, *args, tmp_path / 'hidden', *options, ok=False)
    assert done.returncode == (0 if allowed else 1)
    assert 'skipped: not an image or video:' in done.stderr
    assert '2 inputs: 1 done, 1 skipped (1 not an image or video)' in done.stdout


@pytest.mark.usefixtures('no_handler')
def test_detect__heic_without_the_extra(door, network, tmp_path, monkeypatch):
    monkeypatch.setattr('mmface.utils.sources.heif_installed', lambda: False)
    (tmp_path / 'a.heic').write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(40))
    done = door(TOOL, tmp_path / 'a.heic', '--model', network, '--out', tmp_path / 'out', ok=False)
    assert done.returncode == 1
    assert 'needs the extra heif (install it with: pip install "mmface[heif]")' in done.stderr
    assert '1 inputs: 0 done, 1 skipped (1 needs the extra heif)' in done.stdout


@pytest.mark.usefixtures('no_handler')
def test_detect__tables_hold_the_results_of_all_runs(door, network, picture, tmp_path):
    folder, out = tmp_path / 'in', tmp_path / 'out'
    folder.mkdir()
    cv2.imwrite(str(folder / 'a.png'), picture)
    options = ['--score-thr', 0.3, '--csv', '--coco', '--yolo', '--labelme']
    args = [folder, '--model', network, '--out', out, *options]
    door(TOOL, *args)
    cv2.imwrite(str(folder / 'b.jpg'), picture[::-1])
    done = door(TOOL, *args)  # the results of a.png existed already
    assert f'{out}: labels of 2 images' in done.stdout
    counts = {}
    for name in ('a.png', 'b.jpg'):
        counts[f'in/{name}'] = len(json.loads((out / f'in/{name}.json').read_text())['faces'])
    with (out / 'faces.csv').open(newline='') as file:
        rows = [row['file'] for row in csv.DictReader(file)]
    assert {name: rows.count(name) for name in counts} == counts
    for path in (out / 'faces.coco.json', out / 'yolo', out / 'labelme'):
        labels = read_annotations(path)
        assert {entry.path: len(entry.bboxes) for entry in labels.images}.keys() == counts.keys()
        # Faces outside of the image are no labels.
        assert all(0 < len(entry.bboxes) <= counts[entry.path] for entry in labels.images)
    assert 'nothing to do' in door(TOOL, *args).stdout


@pytest.mark.usefixtures('no_handler')
def test_detect__crops(door, network, picture, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    out, crops = tmp_path / 'out', tmp_path / 'crops'
    args = [tmp_path / 'a.png', '--model', network, '--score-thr', 0.3, '--out', out, '--json']
    done = door(TOOL, *args, '--crops', crops)
    found = json.loads((out / 'a.png.json').read_text())['faces']
    assert found
    files = sorted(path.name for path in crops.iterdir())
    assert set(files) <= {f'a.png.face{number}.png' for number in range(len(found))}
    assert files
    assert f'{crops}: {len(files)} crops' in done.stdout
    refused = door(TOOL, *args, '--crops', crops, '--align', ok=False)
    assert 'made with other settings (align)' in refused.stderr
    assert 'made with other settings (crops, ' in door(TOOL, *args, ok=False).stderr


@pytest.mark.parametrize(
    'name',
    (
        *(f'plain{suffix}' for suffix in ('.jpg', '.png', '.webp', '.tif', '.jp2', '.ras')),
        *(f'pillow{suffix}' for suffix in PILLOW),
        *('palette.png', 'four_colours.jpg', 'stereo.mpo', 'no_suffix'),
    ),
)
def test_read_image__the_same_colours_from_every_format(name, zoo, picture):
    folder, expected = zoo
    if name not in expected:
        pytest.skip('pillow-heif is missing')
    image = read_image(folder / name)
    away = np.abs(image.astype(int) - picture)
    assert away.mean() < 9, 'wrong colours or orientation'


@pytest.mark.parametrize('name', ['float.tif', 'float.tiff', 'float.hdr', 'float.pfm'])
def test_read_image__refuses_values_without_a_range(name, zoo):
    with pytest.raises(ValueError, match='whose range is not known'):
        read_image(zoo[0] / name)


def test_animations__have_both_frames(zoo, picture):
    for name in ('moving.gif', 'moving.webp', 'moving.png', 'moving.avif'):
        first, second = AnimationReader(zoo[0] / name)
        assert np.abs(first.image.astype(int) - picture).mean() < 9, name
        assert np.abs(second.image.astype(int) - picture[:, ::-1]).mean() < 9, name
