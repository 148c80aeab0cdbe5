# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The summary contains the measured values and nothing else."""

from __future__ import annotations

import json
import platform

import pytest

TOOL = 'tools/analysis/summarise_run.py'


@pytest.fixture
def trained(tmp_path):
    """Create the work dirs of a training on 8 cards and of its evaluation."""
    train = tmp_path / 'train'
    (train / '20260101_000000' / 'vis_data').mkdir(parents=True)
    rows = [{'loss': 3.0, 'step': 1}, {'loss': 1.23456, 'step': 2}, {'wider_face/easy': 0.5}]
    scalars = train / '20260101_000000' / 'vis_data' / 'scalars.json'
    scalars.write_text('\n'.join(map(json.dumps, rows)) + '\n')
    measured = {
        'images_per_second': 170.126,
        'seconds_per_iteration': 1.504755,
        'world_size': 8,
        'batch_size_per_card': 32,
    }
    (train / 'throughput.json').write_text(json.dumps(measured))
    (tmp_path / 'eval').mkdir()
    metrics = {'ap': {'easy': 0.94581, 'medium': 0.9338, 'hard': None}}
    (tmp_path / 'eval' / 'metrics.json').write_text(json.dumps(metrics))
    return tmp_path


def test_training_and_evaluation(door, trained):
    done = door(
        TOOL, '--network', 'scrfd_10g', '--train-dir', trained / 'train', '--seconds', 86400,
        '--eval-dir', trained / 'eval', '--out-dir', trained / 'out',
    )  # fmt: skip
    assert (trained / 'out' / 'scrfd_10g_bs32_8p_acc.log').read_text().splitlines() == [
        'Network = scrfd_10g',
        'RankSize = 8',
        'BatchSize = 32',
        f'DeviceType = {platform.machine()}',
        'CaseName = scrfd_10g_bs32_8p_acc',
        'ActualFPS = 170.13',  # as measured for all cards, not 8 times that
        'TrainingTime = 1.5048',
        'ActualLoss = 1.2346',
        'TrainAccuracy = [94.58, 93.38, nan]',
        'E2ETrainingTime = 86400',
    ]
    assert done.stdout.splitlines()[:4] == [
        '------------------ Final result ------------------',
        'Final Performance images/sec : 170.13',
        'Final Train Accuracy : [94.58, 93.38, nan]',
        'E2E Training Duration sec : 86400',
    ]


def test_training_alone__claims_no_accuracy_and_keeps_the_earlier_file(door, trained):
    args = ['--network', 'net', '--train-dir', trained / 'train', '--out-dir', trained / 'out']
    for seconds in (1, 2, 3):
        door(TOOL, *args, '--seconds', seconds)
    texts = {path.name: path.read_text().splitlines()[-2:] for path in (trained / 'out').iterdir()}
    none = 'TrainAccuracy = not measured'
    assert texts == {
        'net_bs32_8p_perf.log.1': [none, 'E2ETrainingTime = 1'],
        'net_bs32_8p_perf.log.2': [none, 'E2ETrainingTime = 2'],
        'net_bs32_8p_perf.log': [none, 'E2ETrainingTime = 3'],
    }


def test_evaluation_alone__claims_no_speed(door, trained):
    door(TOOL, '--network', 'net', '--eval-dir', trained / 'eval', '--out-dir', trained / 'out')
    lines = (trained / 'out' / 'net_1p_eval.log').read_text().splitlines()
    assert 'ActualFPS = not measured' in lines
    assert 'TrainAccuracy = [94.58, 93.38, nan]' in lines


def test_evaluation_on_coco__has_one_number(door, trained):
    metrics = {'images': 5000, 'coco': {'bbox_mAP': 0.429, 'bbox_mAP_50': 0.6}}
    (trained / 'eval' / 'metrics.json').write_text(json.dumps(metrics))
    door(TOOL, '--network', 'net', '--eval-dir', trained / 'eval', '--out-dir', trained / 'out')
    assert 'TrainAccuracy = 42.90\n' in (trained / 'out' / 'net_1p_eval.log').read_text()


def test_run_shorter_than_its_log_interval__says_why_there_is_no_loss(door, trained):
    (trained / 'train/20260101_000000/vis_data/scalars.json').unlink()
    args = ['--network', 'net', '--train-dir', trained / 'train', '--out-dir', trained / 'out']
    door(TOOL, *args)
    lines = (trained / 'out' / 'net_bs32_8p_perf.log').read_text().splitlines()
    assert 'ActualFPS = 170.13' in lines
    (loss,) = (line for line in lines if line.startswith('ActualLoss'))
    assert 'shorter than its log interval (default_hooks.logger.interval)' in loss


@pytest.mark.parametrize(
    ('gone', 'message'),
    [
        ('train/throughput.json', "throughput.json does not exist; training's ThroughputHook"),
        ('eval/metrics.json', 'metrics.json does not exist; tools/test.py --work-dir writes it'),
    ],
)
def test_missing_file__no_summary(door, trained, gone, message):
    (trained / gone).unlink()
    done = door(
        TOOL, '--network', 'net', '--train-dir', trained / 'train', '--eval-dir', trained / 'eval',
        '--out-dir', trained / 'out', ok=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
    assert not (trained / 'out').exists()


def test_nothing_to_sum_up(door, tmp_path):
    done = door(TOOL, '--network', 'net', '--out-dir', tmp_path, ok=False)
    assert done.returncode == 2
    assert 'expected --train-dir, --eval-dir or both' in done.stderr
