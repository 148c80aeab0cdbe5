# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Fine-tune with the configs for it and the options of tools/train.py, as a user does."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow

#: Options that only make the run small and short.
QUICK = [
    '--cfg-options', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
    'test_dataloader.num_workers=0', 'default_hooks.logger.interval=1',
]  # fmt: skip


def scalars(work):
    logs = sorted(work.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def log_text(work):
    return ''.join(log.read_text() for log in sorted(work.glob('*/*.log')))


@pytest.fixture(scope='module')
def finetuned(door, own_data, checkpoint, once):
    """Return the work dir of a run with averaging, early stopping and TensorBoard."""

    def train(work):
        door(
            'tools/train.py', 'configs/scrfd/scrfd_500m_bnkps_finetune.py', '--data-path', own_data,
            '--load-from', checkpoint, '--work-dir', work, '--num-epochs', 2, '--lr', 0.0005,
            '--image-size', 96, '--log', 'tensorboard', *QUICK,
            'train_dataloader.batch_size=2', 'default_hooks.ema.type=MasterEMAHook',
            'default_hooks.early_stopping.type=FaceEarlyStoppingHook',
        )  # fmt: skip

    return once('finetuned', train)


def test_finetune__validates_each_epoch_and_keeps_the_best(finetuned):
    values = scalars(finetuned)
    assert [line['step'] for line in values if 'coco/bbox_mAP' in line] == [1, 2]
    rates = [line['lr'] for line in values if 'lr' in line]
    # Twelve iterations: five of warm-up, while a cosine falls to 0 at the end of the run.
    assert len(rates) == 12
    assert 0.0003 < max(rates) < 0.0005
    assert rates.index(max(rates)) == 4
    assert rates[-1] < rates[-2] < 0.1 * max(rates)
    assert list(finetuned.glob('best_coco_bbox_mAP_*.pth'))
    assert 'inside its warm-up' not in log_text(finetuned)


def test_finetune__logs_to_tensorboard(finetuned):
    assert list(finetuned.glob('*/vis_data/events.out.tfevents.*'))


def test_finetune__its_config_is_read_by_the_test(finetuned, door, own_data, tmp_path):
    config = next(finetuned.glob('*/vis_data/config.py'))
    done = door(
        'tools/test.py', config, finetuned / 'epoch_2.pth', '--data-path', own_data, '--work-dir',
        tmp_path, '--cfg-options', 'test_dataloader.num_workers=0',
    )  # fmt: skip
    assert 'coco/bbox_mAP' in done.stdout + done.stderr


def test_log__without_the_package_names_the_extra(door, own_data, tmp_path):
    done = door(
        'tools/train.py', 'configs/scrfd/scrfd_500m_bnkps_finetune.py', '--data-path', own_data,
        '--work-dir', tmp_path, '--log', 'wandb', ok=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert 'pip install "mmface[log]"' in done.stderr.splitlines()[-1]


def test_short_run__ends_inside_its_warmup_with_a_warning(door, toy, tmp_path, small):
    door(
        'tools/train.py', 'configs/scrfd/scrfd_500m_bnkps.py', '--data-path', toy, '--work-dir',
        tmp_path, '--no-validate', *small, 'train_cfg.max_epochs=1',
    )  # fmt: skip
    assert 'ends inside its warm-up: 3 iterations of 1500' in log_text(tmp_path)


def test_data_root__of_the_loaders_is_enough(door, toy, tmp_path, small):
    door(
        'tools/train.py', 'configs/scrfd/scrfd_500m_bnkps.py', '--work-dir', tmp_path, '--perf',
        *small, f'train_dataloader.dataset.data_root={toy}',
    )  # fmt: skip
    assert 'Epoch(train) [2]' in log_text(tmp_path)


def test_option_that_no_class_takes__is_one_line(door, tmp_path):
    done = door(
        'tools/train.py', 'configs/scrfd/scrfd_500m_bnkps.py', '--work-dir', tmp_path,
        '--cfg-options', 'train_cfg.max_epoch=1', ok=False,
    )  # fmt: skip
    assert done.returncode == 2
    message = 'no parameter max_epoch; nearest: train_cfg.max_epochs'
    assert message in done.stderr.splitlines()[-1]
    assert 'Traceback' not in done.stderr


def test_option_that_nothing_reads__is_a_warning(run_tool, tmp_path):
    done = run_tool(
        'tools/train.py', 'configs/scrfd/scrfd_500m_bnkps.py', '--data-path', tmp_path / 'none',
        '--cfg-options', 'max_epoch=1', ok=False,
    )  # fmt: skip
    text = done.stdout + done.stderr
    assert 'the config has no max_epoch, so this may change nothing; nearest: max_epochs' in text
