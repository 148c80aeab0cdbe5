# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run tools/test.py as a user does."""

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
    """Run the tool on a checkpoint that it must reject, and return its last line."""

    def run(checkpoint, *options):
        done = door(
            'tools/test.py', CONFIG, checkpoint, '--data-path', toy, '--work-dir', tmp_path / 'w',
            *options, ok=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert 'Traceback' not in done.stderr
        return done.stderr.splitlines()[-1]

    return run


def test_test__writes_metrics_txt_and_images(door, toy, small, checkpoint, tmp_path):
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


@pytest.fixture
def tta_file(repo, tmp_path):
    """Write small views to a file of the user."""
    file = tmp_path / 'small_tta.py'
    file.write_text(
        f"_base_ = '{repo}/configs/_base_/tta/face_tta.py'\n"
        'tta_pipeline = _base_.tta_pipeline\n'
        'tta_pipeline[1].transforms[1] = [\n'
        "    dict(type='FaceResize', scale=(side, side), keep_ratio=True) for side in (96, 128)\n"
        ']\n'
    )
    return file


@pytest.mark.parametrize('source', ['file', 'config'])
def test_tta__of_a_file_or_of_the_config(
    door, repo, toy, small, checkpoint, tmp_path, tta_file, source
):
    config, tta = repo / CONFIG, [tta_file]
    if source == 'config':
        config, tta = tmp_path / 'config.py', []
        text = tta_file.read_text().replace("_base_ = '", f"_base_ = ['{repo / CONFIG}', '")
        config.write_text(text.replace("tta.py'\n", "tta.py']\n"))
    done = door(
        'tools/test.py', config, checkpoint, '--data-path', toy, '--work-dir', tmp_path / 'w',
        '--save-txt', tmp_path / 'txt', '--show-dir', tmp_path / 'show', '--tta', *tta, *small,
        'model.test_cfg.score_thr=0.0', 'tta_model.tta_cfg.nms.type=soft_nms',
        'tta_model.tta_cfg.nms.method=gaussian', 'tta_model.tta_cfg.max_per_img=3',
    )  # fmt: skip
    assert 'easy' in done.stdout + done.stderr
    files = sorted((tmp_path / 'txt').rglob('*.txt'))
    assert len(files) == 6
    for file in files:
        assert file.read_text().splitlines()[1] == '3', 'tta_cfg.max_per_img has no effect'
    assert len(list((tmp_path / 'show').glob('*.jpg'))) == 6


def test_tta__needs_its_parts_and_no_mode(refused, door, checkpoint, tmp_path, tta_file):
    line = refused(checkpoint, '--tta', '--cfg-options', 'tta_model=None')
    assert 'the config has no tta_model' in line
    assert '--tta configs/_base_/tta/face_tta.py' in line
    empty = tmp_path / 'empty.py'
    empty.write_text('')
    assert f'{empty} has no tta_model and no tta_pipeline' in refused(checkpoint, '--tta', empty)
    assert 'config /no.py does not exist' in refused(checkpoint, '--tta', '/no.py')
    wrong = refused(checkpoint, '--tta', tta_file, '--cfg-options', 'tta_pipeline.9.type=X')
    assert wrong.startswith(f'error: config {tta_file}: ')
    assert '--mode and --tta exclude each other' in refused(
        checkpoint, '--tta', tta_file, '--mode', 'vga'
    )


def test_refuses__what_is_not_a_checkpoint(refused, checkpoint, tmp_path):
    text = tmp_path / 'text.pth'
    text.write_text('hello')
    assert f'{text} is not a checkpoint' in refused(text)
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(checkpoint.read_bytes()[:-5000])
    assert 'cut.pth is not a checkpoint' in refused(cut)
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
        (['--mode', 'huge'], 'mode must be vga, 1650, origin or a multiple of 32'),
        (['--part', '/no/list.txt'], 'part list /no/list.txt does not exist'),
    ],
)
def test_refuses__bad_options(refused, checkpoint, options, message):
    assert message in refused(checkpoint, *options)


def test_ends_with_an_error__if_something_was_not_written(door, toy, small, checkpoint, tmp_path):
    """Folders block the output files. The disk cases of test/faults use full disks."""
    work, txt = tmp_path / 'w', tmp_path / 'txt'
    (work / 'metrics.json').mkdir(parents=True)
    first = sorted((toy / 'val' / 'images').rglob('*.jpg'))[-1]
    (txt / first.parent.name / f'{first.stem}.txt').mkdir(parents=True)
    done = door(
        'tools/test.py', CONFIG, checkpoint, '--data-path', toy, '--work-dir', work,
        '--save-txt', txt, *small, ok=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f'written to {work}: pr_curve.png' in done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f'error: not everything was written: {txt}')
    assert 'could not be written: Is a directory (and 1 more)' in last
    assert 'hard' in done.stdout + done.stderr  # the numbers are still in the log
