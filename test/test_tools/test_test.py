# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""tools/test.py as a user calls it."""

from __future__ import annotations

import json
import os
import pickle

import cv2
import pytest
import torch

from mmface.utils.checkpoint import load_checkpoint_file

CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'


@pytest.fixture
def refused(door, toy, tmp_path):
    """Run the tool on a checkpoint that it must refuse and give its last line."""

    def run(checkpoint, *options):
        done = door(
            'tools/test.py', CONFIG, checkpoint, '--data-path', toy, '--work-dir', tmp_path / 'w',
            *options, ok=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert 'Traceback' not in done.stderr
        return done.stderr.splitlines()[-1]

    return run


def test_test__writes_metrics_txt_and_pictures(door, toy, small, checkpoint, tmp_path):
    done = door(
        'tools/test.py', CONFIG, checkpoint, '--data-path', toy, '--work-dir', tmp_path / 'w',
        '--mode', '96', '--protocol', 'official', '--save-txt', tmp_path / 'txt',
        '--show-dir', tmp_path / 'show', '--show-thr', 0, *small,
    )  # fmt: skip
    assert 'easy' in done.stdout + done.stderr
    metrics = json.loads((tmp_path / 'w' / 'metrics.json').read_text())
    assert metrics['protocol'] == 'official'
    images = sorted((toy / 'val' / 'images').rglob('*.jpg'))
    txts = sorted((tmp_path / 'txt').rglob('*.txt'))
    assert [t.stem for t in txts] == [i.stem for i in images]
    for image in images:
        assert cv2.imread(str(tmp_path / 'show' / image.name)).shape == cv2.imread(str(image)).shape


@pytest.mark.parametrize('mode', ['vga', '1650', 'origin'])
def test_part_and_mode(door, toy, small, checkpoint, tmp_path, mode):
    names = [str(p.relative_to(toy / 'val/images')) for p in (toy / 'val/images').rglob('*.jpg')]
    part = tmp_path / 'part.txt'
    part.write_text('\n'.join(names[:1]) + '\n')
    done = door(
        'tools/test.py', CONFIG, checkpoint, '--data-path', toy, '--work-dir', tmp_path, '--mode',
        mode, '--part', part, *small,
    )  # fmt: skip
    assert 'Epoch(test) [1/1]' in done.stdout + done.stderr


def test_refuses__what_is_not_a_checkpoint(refused, checkpoint, tmp_path):
    text = tmp_path / 'text.pth'
    text.write_text('hello')
    assert f'{text} is not a checkpoint' in refused(text)
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(checkpoint.read_bytes()[:-5000])
    assert 'only a part of one' in refused(cut)
    assert 'does not exist' in refused(tmp_path / 'none.pth')


def test_refuses__code_unless_trusted(refused, door, toy, small, checkpoint, tmp_path):
    mark = tmp_path / 'executed'

    class Attack:
        def __reduce__(self):
            return os.system, (f'touch {mark}',)

    content = load_checkpoint_file(checkpoint)
    bad = tmp_path / 'bad.pth'
    torch.save({**content, 'extra': Attack()}, bad)
    line = refused(bad)
    assert '(posix.system)' in line
    assert '--trust-checkpoint' in line
    plain = tmp_path / 'plain.pth'
    plain.write_bytes(pickle.dumps(Attack()))
    assert 'error: ' in refused(plain)
    assert not mark.exists()
    door(
        'tools/test.py', CONFIG, bad, '--data-path', toy, '--work-dir', tmp_path / 'w',
        '--trust-checkpoint', *small,
    )  # fmt: skip
    assert mark.exists()


def test_refuses__weights_of_another_config(refused, checkpoint, tmp_path):
    content = load_checkpoint_file(checkpoint)
    weights = {k: v for k, v in content['state_dict'].items() if 'neck' not in k}
    first = next(iter(weights))
    weights[first] = weights[first][:1]
    weights['neck.x'] = torch.ones(1)
    other = tmp_path / 'other.pth'
    torch.save({'state_dict': weights}, other)
    line = refused(other)
    assert 'does not fit the model of this config' in line
    assert 'missing (neck.lateral_convs' in line
    assert '1 not known to the model (neck.x)' in line
    assert f'1 of another shape ({first} (' in line


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--mode', 'huge'], '--mode must be vga, 1650, origin or a multiple of 32'),
        (['--part', '/no/list.txt'], 'part list /no/list.txt does not exist'),
    ],
)
def test_refuses__bad_options(refused, checkpoint, options, message):
    assert message in refused(checkpoint, *options)
