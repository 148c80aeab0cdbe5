# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of tools/detect.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from mmface.apis.detect.videos import Gaps, do_video
from mmface.apis.video.base import Frame
from mmface.apis.video.reader import VideoReader
from mmface.apis.video.writer import open_video
from mmface.utils.images import read_image

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
    """Return options for a model with random weights, which finds faces in any image."""
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
    """Create a folder with two images, a video of five frames and two broken files."""
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
    """Keep the handler of SIGTERM unchanged."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def _as_it_is(image, faces, name='', frame=None):
    return image


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
    assert '5 inputs: 3 done, 2 skipped (2 cannot be decoded)' in done.stdout
    assert f'{out}: 2 images' in done.stdout
    expected = ['a.png', 'a.png.json', 'clip.mp4', 'clip.mp4.jsonl', 'sub/b.jpg', 'sub/b.jpg.json']
    assert _files(out) == [*(f'album/{name}' for name in expected), 'settings.json', 'skipped.csv']
    rows = (out / 'skipped.csv').read_text().splitlines()
    assert [row.split(',')[:2] for row in rows] == [
        ['path', 'reason'],
        [str(inputs / 'broken.jpg'), 'cannot be decoded'],
        [str(inputs / 'broken.avi'), 'cannot be decoded'],
    ]

    found = json.loads((out / 'album/a.png.json').read_text())
    assert (found['image'], found['width'], found['height']) == ('album/a.png', 64, 48)
    assert found['faces']
    image = read_image(out / 'album/a.png')
    assert image.shape == (48, 64, 3)
    assert not np.array_equal(image, read_image(inputs / 'a.png'))
    frames = [json.loads(line) for line in (out / 'album/clip.mp4.jsonl').open()]
    assert [f['frame'] for f in frames] == list(range(5))
    assert [f['seconds'] for f in frames] == [0, 0.1, 0.2, 0.3, 0.4]
    assert VideoReader(out / 'album/clip.mp4').total == 5

    # Run again: existing results are not touched, a lost one is written again.
    (out / 'album/a.png.json').unlink()
    before = {name: (out / name).stat().st_mtime_ns for name in _files(out)}
    done = door(TOOL, *args, ok=False)
    assert done.returncode == 1
    assert '5 inputs: 1 done, 2 existed already, 2 skipped' in done.stdout
    changed = [n for n in _files(out) if (out / n).stat().st_mtime_ns != before.get(n)]
    assert changed == ['album/a.png', 'album/a.png.json', 'skipped.csv']


@pytest.mark.usefixtures('no_handler')
def test_detect__other_settings_need_another_folder(door, model, inputs, tmp_path):
    args = (inputs / 'a.png', *model, '--out', tmp_path)
    door(TOOL, *args)
    marked = (tmp_path / 'a.png').read_bytes()
    assert 'nothing to do' in door(TOOL, *args).stdout
    refused = door(TOOL, *args, '--blur', ok=False)
    assert refused.returncode == 2
    assert '(score_thr, blur): use the same settings, name another folder' in refused.stderr
    assert (tmp_path / 'a.png').read_bytes() == marked
    door(TOOL, *args, '--blur', '--overwrite')
    assert (tmp_path / 'a.png').read_bytes() != marked
    # An image that changed is processed again.
    os.utime(tmp_path / 'a.png', (0, 0))
    assert '1 images' in door(TOOL, *args, '--blur').stdout


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['a.png', '--model', 'x.onnx', '--config', 'c'], 'give either --model FILE'),
        (['a.png', '--config', 'c'], 'belong together'),
        (['a.png', '--model', 'x.onnx', '--score-thr', '2'], 'from 0 to 1'),
        (['a.png', '--model', 'x.onnx', '--align'], 'belong to --crops DIR'),
        (['a.png', '--model', 'x', '--crops', 'd', '--align', '100'], 'size 100: expected a mul'),
        (['a.png', '--model', 'x.onnx', '--blur', '--yolo'], 'not with --blur'),
        (['@a.txt', '--model', 'x.onnx'], 'lists belong to --parquet'),
        (['a.tar', '--model', 'x.onnx', '--parquet', '--shard', '3/3'], 'I from 0 to N - 1'),
        (['a.png', '--model', 'x.onnx', '--boxes', 'b.json'], 'add --blur'),
        (['a.png', '--model', 'x.onnx', '--blur', '--margin', '20'], 'from 0 to 10'),
        (['a.png', '--model', 'x.onnx', '--max-gap', '-1'], 'from 0 to 1000'),
        (['a.png', '--model', 'x.onnx', '--style', 'fog'], "invalid choice: 'fog'"),
        (['a.png', '--config', 'c', '--checkpoint', 'd', '--tiles'], '--tiles is for ONNX files'),
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
def test_detect__own_boxes_and_styles_for_images_and_videos(door, model, inputs, tmp_path):
    own = tmp_path / 'own.jsonl'
    lines = [
        {'image': 'album/a.png', 'faces': [{'bbox': [10, 10, 20, 20]}]},
        {'video': 'album/clip.mp4', 'frame': 3, 'faces': [{'bbox': [10, 10, 20, 20]}]},
    ]
    own.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    out = tmp_path / 'out'
    options = ('--score-thr', 1, '--style', 'solid', '--shape', 'ellipse', '--margin', 0.5)
    args = (inputs, *model, '--out', out, '--blur', *options)
    done = door(TOOL, *args, '--boxes', own, '--allow-skipped')
    assert 'Traceback' not in done.stderr
    before, after = read_image(inputs / 'a.png'), read_image(out / 'album/a.png')
    assert not after[10:20, 10:20].any()
    np.testing.assert_array_equal(after[:, 30:], before[:, 30:])
    frames = [frame.image for frame in VideoReader(out / 'album/clip.mp4')]
    assert frames[3][12:18, 12:18].max() < 20
    assert frames[2][12:18, 12:18].min() > 60
    assert frames[4][12:18, 12:18].min() > 140
    # Other boxes are other settings.
    own.write_text('{"faces": []}')
    assert '(blur)' in door(TOOL, *args, '--boxes', own, ok=False).stderr
    own.write_text('{"image": "none.png", "faces": []}')
    refused = door(TOOL, *args, '--boxes', own, '--overwrite', ok=False)
    assert "no input has the name 'none.png'" in refused.stderr


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
def test_do_video__ctrl_c_ends_a_camera_and_aborts_a_file(live, inputs, tmp_path):
    reader = VideoReader(inputs / 'clip.mp4')
    reader.live, reader.total = live, None
    calls = []

    def detect(images):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(images)
        return [[] for _ in images]

    targets = [tmp_path / 'out.mp4', tmp_path / 'out.jsonl']
    run = (reader, 'clip', targets, detect, 1, _as_it_is, Gaps())
    if not live:
        with pytest.raises(KeyboardInterrupt):
            do_video(*run)
        assert _files(tmp_path) == []
        return
    assert '3 frames, 0 faces' in do_video(*run)
    assert len(targets[1].read_text().splitlines()) == 3
    assert VideoReader(targets[0]).total >= 1


@pytest.mark.parametrize('content', [b'[]', b'{"model": [', b'', b'\xff\xfe', b'"text"'])
@pytest.mark.usefixtures('no_handler')
def test_detect__broken_settings_are_named(content, door, model, inputs, tmp_path):
    args = (inputs / 'a.png', *model, '--out', tmp_path)
    note = tmp_path / 'settings.json'
    note.write_bytes(content)
    done = door(TOOL, *args, ok=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f'{note} does not hold the settings of a run' in line
    assert _files(tmp_path) == ['settings.json']
    door(TOOL, *args, '--overwrite')
    assert 'nothing to do' in door(TOOL, *args).stdout


def test_do_video__names_the_frame_on_which_the_network_fails(inputs, tmp_path):
    def detect(images):
        if images[0][0, 0, 0] > 60:  # from the third frame on: grey values are 0, 40, 80 ...
            raise RuntimeError('out of memory')
        return [[] for _ in images]

    reader = VideoReader(inputs / 'clip.mp4')
    targets = [tmp_path / 'out.mp4', tmp_path / 'out.jsonl']
    with pytest.raises(ValueError, match=r'clip\.mp4, frame 2: out of memory'):
        do_video(reader, 'clip', targets, detect, 1, _as_it_is, Gaps())
    assert _files(tmp_path) == []


def _fail_on_dark_images(path):
    """Write a toy network that onnxruntime runs on bright images and that fails on dark ones."""
    onnx = pytest.importorskip('onnx')
    from mmface_benchmark.toy_onnx import write_toy_centerface

    model = onnx.load(write_toy_centerface(path))
    node, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    graph = model.graph
    values = {'half': np.float32(0.5), 'far': np.int64(9), 'zeros': np.zeros(1, np.float32)}
    graph.initializer.extend(tensor(np.asarray(value), name) for name, value in values.items())
    (sigmoid,) = [item for item in graph.node if item.op_type == 'Sigmoid']
    checks = [
        node('ReduceMax', ['image'], ['brightest'], keepdims=0),
        node('Less', ['brightest', 'half'], ['dark']),
        node('Cast', ['dark'], ['zero_or_one'], to=onnx.TensorProto.INT64),
        node('Mul', ['zero_or_one', 'far'], ['index']),
        node('Gather', ['zeros', 'index'], ['nothing']),  # the index 9 into a single number
        node('Add', [sigmoid.input[0], 'nothing'], ['checked']),
    ]
    sigmoid.input[0] = 'checked'
    rest = [item for item in graph.node if item is not sigmoid]
    nodes = [item for item in rest if item.op_type != 'Sigmoid'] + checks + [sigmoid]
    nodes = [type(item).FromString(item.SerializeToString()) for item in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)
    return path


@pytest.mark.usefixtures('no_handler')
def test_detect__goes_on_after_a_video_on_which_the_network_fails(door, tmp_path):
    network = _fail_on_dark_images(tmp_path / 'network.onnx')
    for name, grey in (('bad.mp4', 0), ('good.mp4', 200)):
        with open_video(tmp_path / name, 10, (64, 48)) as video:
            video.write(Frame(0, 0, np.full((48, 64, 3), grey, np.uint8)))
    videos = [tmp_path / 'bad.mp4', tmp_path / 'good.mp4']
    done = door(TOOL, *videos, '--model', network, '--out', tmp_path / 'out', ok=False)
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f'error: {videos[0]}, frame 0: ')
    assert '2 inputs: 1 done, 1 skipped' in done.stdout
    assert _files(tmp_path / 'out') == ['good.mp4', 'settings.json', 'skipped.csv']


@pytest.fixture(scope='module')
def onnx(reference_dir):
    return reference_dir / 'data/scrfd/weights/scrfd_500m_bnkps.onnx'


@pytest.fixture(scope='module')
def photos(reference_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp('in') / 'photos'
    folder.mkdir()
    images = sorted((reference_dir / 'data/wider/WIDER_val/images').glob('*/*.jpg'))[:16]
    for path in images:
        (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.reference
def test_main__imports_no_torch(onnx, photos, repo, tmp_path):
    path = sorted(photos.iterdir())[0]
    args = [TOOL, str(path), '--model', str(onnx), '--out', str(tmp_path), '--blur']
    code = (
        f'import runpy, sys\nsys.argv = {args!r}\n'
        f'try:\n    runpy.run_path({TOOL!r}, run_name="__main__")\n'
        'except SystemExit as end:\n    assert end.code == 0, end.code\n'
        'alien = {"torch", "mmcv", "mmengine", "mmdet"} & set(sys.modules)\n'
        'assert not alien, alien\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=repo, timeout=600)
    image, hidden = read_image(path), read_image(tmp_path / path.name)
    away = np.abs(image.astype(int) - hidden).max(axis=2) > 60
    assert 0.005 < away.mean() < 0.5  # the faces, not the whole image


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
    assert f'16 inputs: {16 - written} done, {written} existed already' in done.stdout
    run_tool(TOOL, *args, whole)
    assert _files(stopped) == _files(whole)
    assert len(_files(whole)) == 33
    for name in _files(whole):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name
