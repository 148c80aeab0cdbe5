# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""tools/detect.py."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from mmface.apis.video import Frame, VideoReader, open_video
from mmface.utils.picture_files import read_picture

TOOL = 'tools/detect.py'
SMALL = """
_base_ = {base!r}
test_pipeline = [
    dict(type='LoadFaceImage'),
    dict(type='FaceResize', scale=(96, 96), keep_ratio=True),
    dict(type='LoadFaceAnnotations'),
    dict(type='PackFaceInputs'),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(data_preprocessor=dict(pad_size=(96, 96)))
"""


@pytest.fixture(scope='module')
def model(repo, tmp_path_factory):
    """Options that name a model with random weights, which finds faces in anything."""
    torch = pytest.importorskip('torch')
    from mmface.utils.quiet import import_mmdet_quietly

    import_mmdet_quietly()
    from mmface.weights.convert import build_model

    folder = tmp_path_factory.mktemp('model')
    config = folder / 'small.py'
    config.write_text(SMALL.format(base=str(repo / 'configs/scrfd/scrfd_500m_bnkps.py')))
    torch.manual_seed(0)
    torch.save(build_model(config).state_dict(), folder / 'w.pth')
    return '--config', config, '--checkpoint', folder / 'w.pth', '--device', 'cpu'


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    """A folder with two pictures, a video of five frames and two files that are broken."""
    folder = tmp_path_factory.mktemp('inputs') / 'album'
    (folder / 'sub').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (('a.png', (48, 64)), ('sub/b.jpg', (70, 40))):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (*size, 3), np.uint8))
    with open_video(folder / 'clip.mp4', 10, (64, 48)) as video:
        for i in range(5):
            video.write(Frame(i, i / 10, np.full((48, 64, 3), 40 * i, np.uint8)))
    (folder / 'broken.jpg').write_text('text')
    (folder / 'broken.avi').write_text('text')
    return folder


@pytest.fixture
def no_handler():
    """Leave the handler of SIGTERM as it was."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def _files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


@pytest.mark.usefixtures('no_handler')
def test_detect__folder_with_broken_files(door, model, inputs, tmp_path):
    out = tmp_path / 'out'
    args = (inputs, *model, '--out', out, '--json', '--batch-size', 2)
    done = door(TOOL, *args, ok=False)
    assert done.returncode == 1
    assert 'broken.jpg (4 bytes) cannot be read' in done.stderr
    assert 'broken.avi cannot be opened' in done.stderr
    assert '2 of 5 were not done' in done.stderr
    assert f'{out}: 2 pictures' in done.stdout
    expected = ['a.png', 'a.png.json', 'clip.mp4', 'clip.mp4.jsonl', 'sub/b.jpg', 'sub/b.jpg.json']
    assert _files(out) == [*(f'album/{name}' for name in expected), 'settings.json']

    found = json.loads((out / 'album/a.png.json').read_text())
    assert (found['picture'], found['width'], found['height']) == ('album/a.png', 64, 48)
    assert found['faces']
    image = read_picture(out / 'album/a.png')
    assert image.shape == (48, 64, 3)
    assert not np.array_equal(image, read_picture(inputs / 'a.png'))
    frames = [json.loads(line) for line in (out / 'album/clip.mp4.jsonl').open()]
    assert [f['frame'] for f in frames] == list(range(5))
    assert [f['seconds'] for f in frames] == [0, 0.1, 0.2, 0.3, 0.4]
    assert VideoReader(out / 'album/clip.mp4').total == 5

    # Again: what is there is not touched, what was lost is made.
    (out / 'album/a.png.json').unlink()
    before = {name: (out / name).stat().st_mtime_ns for name in _files(out)}
    done = door(TOOL, *args, ok=False)
    assert done.returncode == 1
    assert '2 results were there already' in done.stdout
    changed = [n for n in _files(out) if (out / n).stat().st_mtime_ns != before.get(n)]
    assert changed == ['album/a.png', 'album/a.png.json']


@pytest.mark.usefixtures('no_handler')
def test_detect__other_settings_need_another_folder(door, model, inputs, tmp_path):
    args = (inputs / 'a.png', *model, '--out', tmp_path)
    door(TOOL, *args)
    marked = (tmp_path / 'a.png').read_bytes()
    assert 'nothing to do' in door(TOOL, *args).stdout
    refused = door(TOOL, *args, '--blur', ok=False)
    assert refused.returncode == 2
    assert 'another score_thr and blur: give another folder with --out' in refused.stderr
    assert (tmp_path / 'a.png').read_bytes() == marked
    door(TOOL, *args, '--blur', '--overwrite')
    assert (tmp_path / 'a.png').read_bytes() != marked
    # A picture that changed is done again.
    os.utime(tmp_path / 'a.png', (0, 0))
    assert '1 pictures' in door(TOOL, *args, '--blur').stdout


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['a.png'], 'give either --model FILE or --config'),
        (['a.png', '--model', 'x.onnx', '--config', 'c'], 'give either --model FILE'),
        (['a.png', '--config', 'c'], 'belong together'),
        (['a.png', '--model', 'x.onnx', '--score-thr', '2'], 'from 0 to 1'),
        (['http://a.org/a.png', '--model', 'x.onnx'], 'error: http://a.org/a.png is a URL'),
        (['none.png', '--model', 'x.onnx'], 'error: none.png does not exist'),
    ],
)
@pytest.mark.usefixtures('no_handler')
def test_detect__bad_command_line(args, message, door, tmp_path):
    done = door(TOOL, *args, '--out', tmp_path / 'out', ok=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / 'out').exists()


@pytest.mark.usefixtures('no_handler')
def test_detect__never_over_an_input(door, model, inputs):
    before = (inputs / 'a.png').read_bytes()
    done = door(TOOL, inputs / 'a.png', *model, '--out', inputs, ok=False)
    assert done.returncode == 2
    assert 'would be overwritten' in done.stderr
    assert (inputs / 'a.png').read_bytes() == before
    assert not (inputs / 'settings.json').exists()


@pytest.mark.usefixtures('no_handler')
def test_detect__camera_that_is_not_there(door, model, tmp_path):
    done = door(TOOL, 97, *model, '--out', tmp_path, ok=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith('error: camera 97 cannot be opened')


@pytest.mark.parametrize('live', [True, False])
def test_do_video__ctrl_c_ends_a_camera_and_aborts_a_file(live, repo, inputs, tmp_path):
    tool = runpy.run_path(str(repo / TOOL))
    reader = VideoReader(inputs / 'clip.mp4')
    reader.live, reader.total = live, None
    calls = []

    def detect(images):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(images)
        return [[] for _ in images]

    targets = [tmp_path / 'out.mp4', tmp_path / 'out.jsonl']
    run = (reader, targets, detect, 1, lambda image, faces: image)
    if not live:
        with pytest.raises(KeyboardInterrupt):
            tool['do_video'](*run)
        assert _files(tmp_path) == []
        return
    assert '3 frames, 0 faces' in tool['do_video'](*run)
    assert len(targets[1].read_text().splitlines()) == 3
    assert VideoReader(targets[0]).total >= 1


@pytest.fixture(scope='module')
def onnx(reference_dir):
    return reference_dir / 'data/scrfd/weights/scrfd_500m_bnkps.onnx'


@pytest.fixture(scope='module')
def photos(reference_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp('in') / 'photos'
    folder.mkdir()
    pictures = sorted((reference_dir / 'data/wider/WIDER_val/images').glob('*/*.jpg'))[:16]
    for path in pictures:
        (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.reference
def test_main__imports_no_torch(onnx, photos, repo, tmp_path):
    picture = sorted(photos.iterdir())[0]
    args = [TOOL, str(picture), '--model', str(onnx), '--out', str(tmp_path), '--blur']
    code = (
        f'import runpy, sys\nsys.argv = {args!r}\n'
        f'try:\n    runpy.run_path({TOOL!r}, run_name="__main__")\n'
        'except SystemExit as end:\n    assert end.code == 0, end.code\n'
        'alien = {"torch", "mmcv", "mmengine", "mmdet"} & set(sys.modules)\n'
        'assert not alien, alien\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=repo, timeout=600)
    image, hidden = read_picture(picture), read_picture(tmp_path / picture.name)
    away = np.abs(image.astype(int) - hidden).max(axis=2) > 60
    assert 0.005 < away.mean() < 0.5  # the faces, not the picture


@pytest.mark.reference
def test_main__interrupted_and_resumed(onnx, photos, repo, run_tool, tmp_path):
    args = [photos, '--model', onnx, '--json', '--out']
    stopped, whole = tmp_path / 'stopped', tmp_path / 'whole'
    command = [sys.executable, str(repo / TOOL), *map(str, [*args, stopped])]
    process = subprocess.Popen(command, cwd=repo, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 600
    while time.monotonic() < until and len(list(stopped.glob('photos/[!.]*.jpg'))) < 2:
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=600) == 143
    written = len(list(stopped.rglob('*.jpg')))
    assert 2 <= written < 16
    assert not list(stopped.rglob('.*'))
    done = run_tool(TOOL, *args, stopped)
    assert f'{stopped}: {written} results were there already' in done.stdout
    run_tool(TOOL, *args, whole)
    assert _files(stopped) == _files(whole)
    assert len(_files(whole)) == 33
    for name in _files(whole):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
