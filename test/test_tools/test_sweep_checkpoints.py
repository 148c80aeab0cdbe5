# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""tools/evaluation/sweep_checkpoints.py as a user calls it, and what it decides."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmface.evaluation.sweep_result import (
    Checkpoint,
    best_of,
    draw_curves,
    format_rows,
    read_ap,
    write_table,
)

TOOL = 'tools/evaluation/sweep_checkpoints.py'
CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'
NAN = float('nan')


@pytest.fixture(scope='module')
def tool(repo):
    """The functions of the tool."""
    return runpy.run_path(str(repo / TOOL))


@pytest.fixture
def args(tmp_path):
    """Give the arguments of the tool for ``tmp_path``, changed by keywords."""

    def make(**changes):
        values = dict(work_dir=tmp_path, by=None, start=None, end=None, step=None)
        return argparse.Namespace(**{**values, **changes})

    return make


@pytest.fixture
def terminate():
    """Put back the handler that the tool sets when it runs in this process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def children_of(folder: Path) -> list[str]:
    """Give the command lines of tests that run on checkpoints of the folder."""
    lines = []
    for file in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            line = file.read_bytes().replace(b'\0', b' ').decode()
        except OSError:
            continue
        if 'tools/test.py' in line and str(folder) in line:
            lines.append(line)
    return lines


def rows_of(work: Path) -> dict[str, dict[str, str]]:
    with (work / 'sweep' / 'sweep.csv').open() as file:
        return {row['checkpoint']: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_sweep__stopped_resumed_with_a_missing_and_a_broken_checkpoint(
    door, run_tool, repo, toy, small, checkpoint, tmp_path, terminate
):
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        shutil.copy(checkpoint.with_name(name), tmp_path)
    (tmp_path / 'epoch_4.pth').write_text('hello')
    given = [
        CONFIG, tmp_path, '--start', 1, '--end', 4, '--step', 1, '--select', 'easy',
        '--data-path', toy,
    ]  # fmt: skip
    first = subprocess.Popen(
        [sys.executable, TOOL, *map(str, given), '--devices', 'cpu', *small],
        cwd=repo,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    end = time.time() + 600
    done = tmp_path / 'sweep' / 'epoch_1' / 'result.json'
    while not (done.is_file() and children_of(tmp_path)):
        assert first.poll() is None, first.communicate()[0]
        assert time.time() < end
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)  # as Ctrl-C, which a test that runs in background ignores
    text = first.communicate(timeout=600)[0]
    assert first.returncode == 130, text
    assert 'missing, skipped: epoch_3.pth' in text
    assert not children_of(tmp_path)
    assert rows_of(tmp_path)['epoch_1.pth']['easy']
    assert not rows_of(tmp_path)['epoch_2.pth']['easy']
    stamp = done.stat().st_mtime_ns

    text = run_tool(TOOL, *given, '--devices', 'cpu,cpu', *small).stdout
    assert '1 of 3 have a result already' in text
    assert done.stat().st_mtime_ns == stamp
    rows = rows_of(tmp_path)
    assert list(rows) == [f'epoch_{number}.pth' for number in (1, 2, 4)]
    for number in (1, 2):
        metrics = json.loads((tmp_path / f'sweep/epoch_{number}/metrics.json').read_text())
        assert float(rows[f'epoch_{number}.pth']['hard']) == pytest.approx(
            metrics['ap']['hard'], abs=1e-6
        )
    assert 'epoch_4.pth is not a checkpoint' in rows['epoch_4.pth']['note']
    assert 'epoch_4: failed, exit status 2: error:' in text
    best = max(('epoch_1.pth', 'epoch_2.pth'), key=lambda name: float(rows[name]['easy']))
    assert (tmp_path / 'best.pth').readlink() == Path(best)
    assert cv2.imread(str(tmp_path / 'sweep' / 'sweep.png')).shape[1] > 500

    only_broken = door(TOOL, *given, '--start', 4, '--devices', 'cpu', *small, ok=False)
    assert only_broken.returncode == 2
    assert 'no checkpoint has an AP on the easy faces' in only_broken.stderr


@pytest.mark.parametrize(
    ('changes', 'numbers', 'missing'),
    [
        ({}, [2, 10, 30], []),
        (dict(start=5), [10, 30], []),
        (dict(end=10), [2, 10], []),
        (dict(start=10, step=10), [10, 30], ['epoch_20.pth']),
        (dict(start=10, end=50, step=20), [10, 30], ['epoch_50.pth']),
        (dict(by='iter'), [500], []),
    ],
)
def test_find__range_of_checkpoints(tool, args, tmp_path, changes, numbers, missing):
    for name in ('epoch_10', 'epoch_2', 'epoch_30', 'iter_500', 'best_hard_epoch_7', 'epoch_x'):
        (tmp_path / f'{name}.pth').touch()
    (tmp_path / 'best.pth').symlink_to('epoch_10.pth')
    found, lost, by = tool['find_checkpoints'](args(**changes))
    assert [item.number for item in found] == numbers
    assert [item.path.name for item in found] == [f'{by}_{number}.pth' for number in numbers]
    assert lost == missing


def test_find__iterations_where_there_are_no_epochs_and_nothing(tool, args, tmp_path):
    with pytest.raises(FileNotFoundError, match='has none'):
        tool['find_checkpoints'](args())
    (tmp_path / 'iter_7.pth').touch()
    assert tool['find_checkpoints'](args())[2] == 'iter'
    with pytest.raises(FileNotFoundError, match=r'from 8 to 9 in steps of 1: .* has iter_7.pth'):
        tool['find_checkpoints'](args(start=8, end=9, step=1))
    with pytest.raises(FileNotFoundError, match='is not a folder'):
        tool['find_checkpoints'](args(work_dir=tmp_path / 'none'))


def test_devices(tool, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    first, second = tool['find_devices']('cpu,cpu')
    assert first.name == second.name == 'cpu'
    assert 1 <= int(first.env['OMP_NUM_THREADS']) <= max(os.cpu_count() // 2, 1)
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert tool['find_devices']('cpu')[0].env == {}, 'the choice of the user'
    assert tool['find_devices']('auto')[0].name == 'auto'
    for wrong in ('gpu', '0,cpu', '', '99'):
        with pytest.raises(ValueError, match='--devices'):
            tool['find_devices'](wrong)
    assert tool['visible_cards'](2, None) == ['0', '1']
    assert tool['visible_cards'](2, '4,7') == ['4', '7'], 'cards hidden from the sweep stay hidden'


def test_test__is_described_by_all_that_matters(tool, toy, tmp_path, monkeypatch):
    part = tmp_path / 'part.txt'
    names = [str(p.relative_to(toy / 'val/images')) for p in (toy / 'val/images').rglob('*.jpg')]
    part.write_text(names[0])
    other = tmp_path / 'toy'
    other.symlink_to(toy)  # the same data: what counts is where they are in truth
    plain = ['--data-path', str(toy)]

    def describe(*options, config=CONFIG):
        return tool['describe_test'](config, [*plain, *map(str, options)])

    base = describe()
    assert describe() == base
    digests = [base, describe('--mode', '96'), describe('--protocol', 'official')]
    digests.append(describe('--cfg-options', 'model.test_cfg.score_thr=0.5'))
    digests.append(describe('--part', part))
    part.write_text(names[1])
    digests.append(describe('--part', part))
    digests.append(describe('--tta', 'configs/_base_/tta/face_tta.py'))
    digests.append(describe(config='configs/scrfd/scrfd_2.5g_bnkps.py'))
    assert len(set(digests)) == len(digests)
    with pytest.raises(ValueError, match='does not test with WiderFaceMetric'):
        describe('--cfg-options', 'test_evaluator.type=CocoMetric')
    with pytest.raises(FileNotFoundError, match='does not exist'):
        tool['describe_test'](CONFIG, ['--data-path', '/no/data'])


def test_result__belongs_to_a_file_and_a_test(tool, tmp_path):
    file = tmp_path / 'epoch_1.pth'
    file.write_bytes(b'weights')
    item = Checkpoint(file, 1, tmp_path / 'sweep' / 'epoch_1')
    assert not tool['read_result'](item, 'test')
    item.folder.mkdir(parents=True)
    content = dict(ap=dict(easy=0.5, medium=None, hard=0.25), of=tool['identify'](item, 'test'))
    result = item.folder / 'result.json'
    result.write_text(json.dumps(content))
    assert tool['read_result'](item, 'test')
    assert item.ap['hard'] == 0.25
    assert np.isnan(item.ap['medium'])
    assert not tool['read_result'](item, 'another')
    os.utime(file, ns=(1, 1))
    assert not tool['read_result'](item, 'test'), 'written again'
    result.write_text('{')
    assert not tool['read_result'](item, 'test')


def test_link__is_replaced_but_nothing_else_is(tool, tmp_path):
    link = tmp_path / 'best.pth'
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        (tmp_path / name).touch()
        tool['link_best'](link, tmp_path / name)
        assert link.readlink() == Path(name)
    assert len(list(tmp_path.iterdir())) == 3, 'a temporary name was left'
    link.unlink()
    link.write_text('mine')
    with pytest.raises(ValueError, match='is not a link: move it away'):
        tool['link_best'](link, tmp_path / 'epoch_1.pth')
    assert link.read_text() == 'mine'


def test_sweep__only_one_at_a_time(tool, tmp_path):
    with (
        tool['only_one'](tmp_path),
        pytest.raises(ValueError, match='another sweep is running'),
        tool['only_one'](tmp_path),
    ):
        pass
    with tool['only_one'](tmp_path):
        pass


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--device', 'cpu'], '--device cannot be given here: use --devices'),
        (['--save-txt=x'], '--save-txt cannot be given here'),
        (['--step', '0'], '--step must be 1 or more, not 0'),
        (['--select', 'best'], 'invalid choice'),
    ],
)
def test_refuses__bad_options(door, tmp_path, options, message):
    done = door(TOOL, CONFIG, tmp_path, *options, ok=False)
    assert done.returncode == 2
    assert message in done.stderr


def test_refuses__options_that_the_test_does_not_know(door, toy, tmp_path):
    (tmp_path / 'epoch_1.pth').touch()
    done = door(TOOL, CONFIG, tmp_path, '--data-path', toy, '--nonsense', ok=False)
    assert done.returncode == 2
    assert 'unrecognized arguments: --nonsense' in done.stderr
    assert not (tmp_path / 'sweep').exists()


def swept(numbers):
    """Give checkpoints with hard APs; None is one that failed."""
    items = []
    for number, value in numbers.items():
        ap = {} if value is None else dict(easy=0.9 - value / 9, medium=NAN, hard=value)
        note = 'exit status 2: error: broken' if value is None else ''
        path = Path(f'epoch_{number}.pth')
        items.append(Checkpoint(path, number, Path(path.stem), ap, note))
    return items


def test_best__first_of_equals_and_never_nan():
    items = swept({1: 0.2, 2: 0.7, 3: None, 4: 0.7, 5: NAN})
    assert best_of(items, 'hard').number == 2
    assert best_of(items, 'easy').number == 1
    assert best_of(items, 'medium') is None
    assert best_of(items[2:3], 'hard') is None


def test_table__text_and_csv(tmp_path):
    items = swept({8: 0.2, 10: None, 12: 0.7})
    lines = format_rows(items, items[2]).splitlines()
    assert lines[0].split() == ['easy', 'medium', 'hard']
    assert lines[1].split() == ['epoch_8', '0.8778', 'nan', '0.2000']
    assert lines[2].split(maxsplit=1) == ['epoch_10', 'exit status 2: error: broken']
    assert lines[3].endswith('0.7000  best')
    write_table(tmp_path / 'sweep.csv', items)
    rows = list(csv.DictReader((tmp_path / 'sweep.csv').open()))
    assert [row['hard'] for row in rows] == ['0.200000', '', '0.700000']
    assert rows[1]['note'] == 'exit status 2: error: broken'


def test_read_ap__all_subsets():
    assert read_ap(dict(ap=dict(easy=1, medium=0, hard=0.5))) == dict(easy=1, medium=0, hard=0.5)
    with pytest.raises(KeyError):
        read_ap(dict(ap=dict(easy=1)))


@pytest.mark.parametrize('numbers', [{3: 0.5}, {1: 0.2, 2: None, 30: 0.7}])
def test_curves__are_drawn_in_their_colours(tmp_path, numbers):
    items = swept(numbers)
    draw_curves(tmp_path / 'a.png', items, best_of(items, 'hard'), 'epoch', 'run')
    picture = cv2.imread(str(tmp_path / 'a.png'))
    for colour in ('#0072B2', '#009E73'):  # medium is NaN here
        wanted = [int(part, 16) for part in re.findall('..', colour[1:])][::-1]
        assert (picture == wanted).all(-1).sum() > 20
