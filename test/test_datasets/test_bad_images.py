# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A few bad images do not stop a training run, and each of them is reported."""

from __future__ import annotations

import errno
import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from torch.utils.data import ConcatDataset

import mmface
from mmface.datasets import WiderFaceDataset
from mmface.datasets.bad_images import NOTE
from mmface.datasets.transforms import jpeg_rows
from mmface.datasets.transforms.jpeg_rows import read_file
from mmface.engine import BadImagesHook
from mmface.utils.epoch_index import EpochIndex

mmface.register_all_modules()
COUNT = 10
PIPELINES = {
    'whole': [{'type': 'LoadFaceImage'}, {'type': 'LoadFaceAnnotations'}],
    'rows': [{'type': 'LoadFaceAnnotations'}, {'type': 'RandomSquareCrop', 'crop_choice': [0.5]}],
}


def damage(path, kind):
    data = path.read_bytes()
    if kind == 'missing':
        path.unlink()
    elif kind == 'cut':
        path.write_bytes(data[: len(data) // 2])
    elif kind == 'no end marker':
        path.write_bytes(data[:-2])
    elif kind == 'damaged inside':
        path.write_bytes(data[: len(data) // 2] + bytes(100) + data[len(data) // 2 + 100 :])
    elif kind == 'no image':
        path.write_bytes(b'<html>')
    elif kind == 'other size':
        cv2.imwrite(str(path), np.zeros((50, 90, 3), np.uint8))


@pytest.fixture
def build(tmp_path):
    """Return ``build(kinds, ...)``: a data set in which the first images are bad."""
    images = tmp_path / 'data' / 'images' / 'e'
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels = []
    for i in range(COUNT):
        cv2.imwrite(str(images / f'{i}.jpg'), rng.integers(0, 256, (120, 80, 3), np.uint8))
        labels.append(f'# e/{i}.jpg 80 120\n{10 + i} 10 40 50\n')
    (tmp_path / 'data' / 'labelv2.txt').write_text(''.join(labels))

    def make(kinds=(), pipeline='whole', **options):
        for i, kind in enumerate(kinds):
            damage(images / f'{i}.jpg', kind)
        with DefaultScope.overwrite_default_scope('mmdet'):
            data = WiderFaceDataset(
                data_root=str(tmp_path / 'data'),
                ann_file='labelv2.txt',
                data_prefix={'img_path': 'images/'},
                pipeline=PIPELINES[pipeline],
                **options,
            )
        data.note_folder = str(tmp_path / 'run')
        return data

    return make


def note(tmp_path):
    path = tmp_path / 'run' / NOTE
    return path.read_text().splitlines() if path.is_file() else []


@pytest.mark.parametrize('pipeline', PIPELINES)
@pytest.mark.parametrize('kind', ['missing', 'cut', 'no image', 'other size'])
def test_training__another_image_takes_the_place(kind, pipeline, build, tmp_path):
    data = build([kind, kind], pipeline, max_bad_images=2)
    index = EpochIndex(0, epoch=3, seed=5)
    for _ in range(2):  # the same image each time
        sample = data[index]
        assert sample['img_id'] == 'e/2.jpg'
        assert (sample['sample_idx'].epoch, sample['sample_idx'].origin) == (3, 0)
    assert data[3]['img_id'] == 'e/3.jpg'
    assert [line.partition('\t')[0][-5:] for line in note(tmp_path)] == ['0.jpg', '1.jpg']


@pytest.mark.parametrize('pipeline', PIPELINES)
def test_training__damaged_data_are_used_with_a_warning(pipeline, build, tmp_path):
    data = build(['no end marker', 'damaged inside'], pipeline, max_bad_images=2)
    for _ in range(2):
        assert [data[i]['img_id'] for i in (0, 1)] == ['e/0.jpg', 'e/1.jpg']
    (line,) = note(tmp_path)
    assert '1.jpg\tused, but image ' in line and 'has damaged data inside' in line


def test_training__damaged_data_do_not_count(build, tmp_path):
    data = build(['damaged inside', 'damaged inside', 'cut', 'cut'], max_bad_images=1)
    assert data[1]['img_id'] == 'e/1.jpg' and data[0]['img_id'] == 'e/0.jpg'
    with pytest.raises(ValueError, match='2 of 10 images'):
        data[2]


def test_training__above_the_limit_is_an_error(build, tmp_path):
    data = build(['cut', 'no image', 'other size'], max_bad_images=0.2)
    with pytest.raises(ValueError, match=r'3 of 10 images .*allows 2.*bad_images\.txt') as caught:
        data[0]
    assert '80x120' in str(caught.value)
    assert len(note(tmp_path)) == 3


def test_training__workers_share_the_list(build, tmp_path):
    first, second = build(['cut', 'cut'], max_bad_images=1), build(max_bad_images=1)
    second.full_init()
    first.prepare_data(1)
    with pytest.raises(ValueError, match='2 of 10 images'):
        second.prepare_data(0)


def test_training__missing_images_are_counted_at_the_start(build):
    with pytest.raises(FileNotFoundError, match='2 of the 10 images'):
        build(['missing', 'missing'], max_bad_images=1)


@pytest.mark.parametrize('kind', ['cut', 'no image', 'other size', 'damaged inside'])
@pytest.mark.parametrize('test_mode', [True, False])
def test_none_allowed__every_bad_image_is_an_error(kind, test_mode, build):
    data = build([kind], test_mode=test_mode)
    if kind == 'damaged inside' and not test_mode:
        assert data[0]['img_id'] == 'e/0.jpg'
        return
    with pytest.raises(ValueError, match=r'0\.jpg'):
        data[0]


def test_testing__damaged_data_can_be_allowed(build):
    data = build(['damaged inside', 'cut'], test_mode=True, max_bad_images=1)
    assert data[0]['img_id'] == 'e/0.jpg'
    with pytest.raises(ValueError, match='cut before its end'):
        data[1]


def test_read_file__tries_again_where_errors_pass(tmp_path, monkeypatch):
    path = tmp_path / 'a'
    path.write_bytes(b'x')
    failures = [OSError(errno.ESTALE, 'stale'), OSError(errno.EIO, 'input/output')]

    def flaky(*args, **kwargs):
        if failures:
            raise failures.pop()
        return path.open('rb')

    monkeypatch.setattr(jpeg_rows, 'PAUSES', (0.0, 0.0, 0.0))
    monkeypatch.setattr(jpeg_rows, 'open', flaky, raising=False)
    assert read_file(str(path)) == b'x'
    failures += [OSError(errno.EIO, 'input/output')] * 4
    with pytest.raises(OSError, match='input/output'):
        read_file(str(path))


def test_hook__sets_the_folder_and_counts(build, tmp_path, caplog):
    data = ConcatDataset([build(['cut', 'damaged inside'], max_bad_images=2)])
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    (work_dir / NOTE).write_text('of an earlier run\tx\n')
    runner = SimpleNamespace(
        rank=0,
        work_dir=str(work_dir),
        train_dataloader=SimpleNamespace(dataset=data),
        logger=logging.getLogger('hook'),
    )
    hook = BadImagesHook()
    hook.before_train(runner)
    assert not (work_dir / NOTE).exists()
    assert [data[i]['img_id'] for i in (0, 1)] == ['e/1.jpg', 'e/1.jpg']
    hook.after_train(runner)
    assert '1 images could not be used and 1 have damaged data inside' in caplog.text
