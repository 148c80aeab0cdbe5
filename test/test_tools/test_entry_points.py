# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run the Ascend model zoo's scripts on the CPU with one and two processes."""

from __future__ import annotations

import json
import re
import sys
import time

import pytest
from mmengine.config import Config
from mmengine.device import get_device

KEYS = [
    'Network', 'RankSize', 'BatchSize', 'DeviceType', 'CaseName', 'ActualFPS', 'TrainingTime',
    'ActualLoss', 'TrainAccuracy', 'E2ETrainingTime',
]  # fmt: skip
SCRIPTS = [
    'train_full_1p.sh', 'train_full_8p.sh', 'train_performance_1p.sh', 'train_performance_8p.sh',
    'train_eval_1p.sh',
]  # fmt: skip
on_cpu = pytest.mark.skipif(get_device() != 'cpu', reason='tests the processes without devices')


@pytest.fixture(scope='module')
def tiny(repo, tmp_path_factory):
    """Write a config that takes seconds: 6 batches of 2 images, 64 pixels, 2 epochs, validation."""
    path = tmp_path_factory.mktemp('config') / 'tiny_1p_o2.py'
    path.write_text(f"""
_base_ = '{repo}/configs/scrfd/scrfd_500m_bnkps.py'
side = (64, 64)
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(size=side[0])
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=side)
model = dict(data_preprocessor=dict(pad_size=side))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=1)
""")
    return path


@pytest.fixture(scope='module')
def script(run_tool, tmp_path_factory):
    """Run a script of test/ with the Python of these tests."""

    def run(name, *flags, **kwargs):
        start = time.monotonic()
        done = run_tool(f'test/{name}', *flags, VIRTUAL_ENV=sys.prefix, **kwargs)
        done.seconds = time.monotonic() - start
        return done

    return run


@pytest.fixture
def flags(toy, tiny, tmp_path):
    return [
        f'--data_path={toy}', f'--network={tiny}', f'--output_dir={tmp_path}', '--precision=fp32',
    ]  # fmt: skip


def _summary(path):
    pairs = [line.split(' = ') for line in path.read_text().splitlines()]
    assert [key for key, _ in pairs] == KEYS
    return dict(pairs)


def _check(summary, done, work_dir, case):
    """Check that the summary agrees with the files of the run and with the console."""
    console = done.stdout
    measured = json.loads((work_dir / 'throughput.json').read_text())
    assert summary['CaseName'] == case
    assert int(summary['RankSize']) == measured['world_size']
    assert int(summary['BatchSize']) == measured['batch_size_per_card']
    assert float(summary['ActualFPS']) == pytest.approx(measured['images_per_second'], abs=0.01)
    seconds = float(summary['TrainingTime'])
    assert seconds == pytest.approx(measured['seconds_per_iteration'], abs=1e-4)
    scalars = next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()
    losses = [json.loads(line)['loss'] for line in scalars if '"loss"' in line]
    assert float(summary['ActualLoss']) == pytest.approx(losses[-1], abs=1e-4)
    assert 0 < float(summary['E2ETrainingTime']) <= done.seconds + 1  # whole seconds
    assert '------------------ Final result ------------------' in console
    assert f'Final Performance images/sec : {summary["ActualFPS"]}\n' in console
    assert f'Final Train Accuracy : {summary["TrainAccuracy"]}\n' in console
    assert f'E2E Training Duration sec : {summary["E2ETrainingTime"]}\n' in console
    return measured


def test_performance_1p__twice_keeps_both(script, flags, tmp_path):
    """Three epochs; the files of an earlier run stay."""
    old = tmp_path / '0' / 'train_0.log'
    old.parent.mkdir()
    old.write_text('earlier')
    done = script('train_performance_1p.sh', *flags, f'--work_dir={tmp_path / "work"}')
    assert (tmp_path / '0' / 'train_0.log.1').read_text() == 'earlier'
    summary = _summary(tmp_path / '0' / 'tiny_bs2_1p_perf.log')
    measured = _check(summary, done, tmp_path / 'work', 'tiny_bs2_1p_perf')
    assert [epoch['epoch'] for epoch in measured['epochs']] == [1, 2, 3]
    assert (measured['iterations'], measured['images']) == (3, 6)
    assert summary['TrainAccuracy'] == 'not measured'
    assert old.read_text() in done.stdout
    assert 'Epoch(val)' not in done.stdout
    again = script('train_performance_1p.sh', *flags, f'--work_dir={tmp_path / "work"}', ok=False)
    assert again.returncode == 2
    assert 'is not empty; name a new one' in again.stderr
    # With the config of the run, which has all its options.
    assert f'{tmp_path / "work" / "tiny_1p_o2.py"} 1 --data-path' in again.stderr
    assert old.read_text() in done.stdout


@on_cpu
def test_performance_8p__two_processes_have_a_log_each(script, flags, tmp_path):
    done = script(
        'train_performance_8p.sh', *flags, '--world_size=2', '--device_list=3,5', '--batch_size=1',
        '--num_epochs=1', '--lr=0.002', '--precision=o1',
    )  # fmt: skip
    (work_dir,) = (tmp_path / '3').glob('run_*')
    summary = _summary(tmp_path / '3' / 'tiny_bs1_2p_perf.log')
    measured = _check(summary, done, work_dir, 'tiny_bs1_2p_perf')
    assert (measured['iterations'], measured['images']) == (1, 2)
    first, second = ((tmp_path / d / f'train_{d}.log').read_text() for d in '35')
    assert 'Throughput' in first
    assert 'Throughput' not in second
    config = (work_dir / 'tiny_1p_o2.py').read_text()
    assert re.search(r'lr=0.002', config)
    assert "type='AutocastOptimWrapper'" in config


def test_full_1p_and_eval_1p__measure_the_accuracy(script, flags, tmp_path):
    """The evaluation of the last checkpoint alone yields the accuracy of the full run."""
    done = script('train_full_1p.sh', *flags, '--', '--cfg-options', 'test_dataloader.batch_size=3')
    (work_dir,) = (tmp_path / '0').glob('run_*')
    summary = _summary(tmp_path / '0' / 'tiny_bs2_1p_acc.log')
    _check(summary, done, work_dir, 'tiny_bs2_1p_acc')
    assert (work_dir / 'epoch_2.pth').is_file()
    ap = json.loads((work_dir / 'eval' / 'metrics.json').read_text())['ap']
    expected = [100 * ap[name] for name in ('easy', 'medium', 'hard')]
    assert json.loads(summary['TrainAccuracy']) == pytest.approx(expected, abs=0.01)
    assert 'Epoch(val)' not in (tmp_path / '0' / 'train_0.log').read_text()
    # The options behind -- also hold for the evaluation.
    evaluated = Config.fromfile(work_dir / 'eval' / 'tiny_1p_o2.py')
    assert evaluated.test_dataloader.batch_size == 3
    assert 'Epoch(test)' in (tmp_path / '0' / 'eval_0.log').read_text()

    done = script('train_eval_1p.sh', *flags[:3])
    assert str(work_dir / 'epoch_2.pth') in done.stdout
    alone = _summary(tmp_path / '0' / 'tiny_1p_eval.log')
    assert alone['TrainAccuracy'] == summary['TrainAccuracy']
    assert alone['ActualFPS'] == 'not measured'
    assert (tmp_path / '0' / 'eval_0.log.1').is_file()


@on_cpu
def test_failing_process__ends_all_and_leaves_no_summary(script, flags, tiny, toy, tmp_path):
    bad = tmp_path / 'bad.py'
    bad.write_text(f"""
_base_ = '{tiny}'
import os
if os.environ['RANK'] == '1':
    raise RuntimeError('rank 1 is broken')
""")
    done = script(
        'train_full_8p.sh', f'--data_path={toy}', f'--network={bad}', f'--output_dir={tmp_path}',
        '--device_list=0,1', ok=False,
    )  # fmt: skip
    assert done.returncode == 2
    log = tmp_path / '1' / 'train_1.log'
    lines = done.stderr.splitlines()
    assert lines[-1] == f'error: train failed, rank 1 ended with status 2: {log}'
    assert 'RuntimeError: rank 1 is broken' in lines[-2]
    assert 'Final' not in done.stdout
    assert not list(tmp_path.rglob('*p_acc.log'))
    # No process continued unnoticed: rank 0 was waiting for rank 1 when it was ended.
    assert not list(tmp_path.rglob('*.pth'))


@pytest.mark.parametrize('name', SCRIPTS)
def test_help__shows_the_flags_and_an_example(script, name):
    text = script(name, '--help').stdout
    assert text.splitlines()[-1] == (
        f'  bash test/{name} --data_path=data/WIDERFace --network=scrfd_10g'
    )
    assert ' centernet2_r50_1x ' in text and ' centerface_mindspore ' in text
    assert {'scrfd_2.5g', 'scrfd_34g', 'scrfd_500m', 'scrfd_10g_bnkps'} <= set(text.split())
    assert ('--world_size' in text) == ('8p' in name)
    assert ('--ckpt' in text) == ('eval' in name)


@pytest.mark.parametrize(
    ('name', 'flags', 'message'),
    [
        ('train_full_1p.sh', [], 'the data set is missing: give its folder with --data_path=DIR'),
        ('train_full_1p.sh', ['--data_path=/no'], 'data path /no does not exist'),
        ('train_full_1p.sh', ['--data_path=.', '--network=yolo'], 'no network yolo'),
        ('train_full_1p.sh', ['--data_path=.', '--network=no.py'], 'this config does not exist'),
        ('train_full_8p.sh', ['--data_path=.', '--epochs=3'], 'unknown flag --epochs=3'),
        ('train_full_8p.sh', ['--data_path'], '--data_path=: expected a value'),
        ('train_full_8p.sh', ['--data_path='], '--data_path=: expected a value'),
        ('train_full_1p.sh', ['--data_path=.', '--world_size=2'], 'unknown flag --world_size=2'),
        ('train_full_1p.sh', ['--data_path=.', '--device_list=0,1'], '2 devices for 1 process'),
        ('train_full_8p.sh', ['--data_path=.', '--device_list=a'], 'numbers with commas'),
        ('train_full_8p.sh', ['--data_path=.', '--world_size=0'], 'expected a whole number from 1'),
        ('train_full_8p.sh', ['--data_path=.', '--lr=fast'], '--lr=fast: expected a number'),
        (
            'train_full_8p.sh',
            ['--data_path=.', '--precision=o3'],
            'expected o1, o2 or fp32',
        ),
        ('train_full_8p.sh', ['--data_path=.', '--local_rank=0'], 'sets the rank of each process'),
        ('train_full_1p.sh', ['--data_path=.', '--fp32'], 'use --precision=fp32'),
        ('train_eval_1p.sh', ['--data_path=.', '--lr=1'], 'unknown flag --lr=1'),
        ('train_eval_1p.sh', ['--data_path=.', '--work_dir=/no'], 'no checkpoint in /no; name one'),
    ],
)
def test_bad_flags__are_one_line(script, name, flags, message, tmp_path):
    if flags:
        flags = [*flags, f'--output_dir={tmp_path}']
    done = script(name, *flags, ok=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: ')
    assert message in line
    assert not list(tmp_path.iterdir())
