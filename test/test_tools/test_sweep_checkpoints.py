# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run tools/evaluation/sweep_checkpoints.py as a user does, and test its decisions."""

from __future__ import annotations

import csv
import json
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from mmface.apis.sweep import describe_test

TOOL = 'tools/evaluation/sweep_checkpoints.py'
CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'


@pytest.fixture(scope='module')
def tool(repo):
    """Return the functions of the tool."""
    return runpy.run_path(str(repo / TOOL))


@pytest.fixture
def terminate():
    """Restore the handler that the tool sets when it runs in this process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def children_of(folder: Path) -> list[str]:
    """Return the command lines of the tests that run on checkpoints of the folder."""
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
    first.send_signal(signal.SIGTERM)  # like Ctrl-C, which a background test ignores
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


def test_test__is_described_by_all_that_matters(tool, toy, tmp_path, monkeypatch):
    part = tmp_path / 'part.txt'
    names = [str(p.relative_to(toy / 'val/images')) for p in (toy / 'val/images').rglob('*.jpg')]
    part.write_text(names[0])
    other = tmp_path / 'toy'
    other.symlink_to(toy)  # the same data: the resolved path decides
    plain = ['--data-path', str(toy)]

    def describe(*options, config=CONFIG):
        return describe_test(*tool['build_config'](config, [*plain, *map(str, options)]))

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
        tool['build_config'](CONFIG, ['--data-path', '/no/data'])


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
