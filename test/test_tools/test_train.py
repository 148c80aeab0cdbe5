# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run tools/train.py as a user does."""

from __future__ import annotations

import pytest
import torch

from mmface.cli.train import build_config, parse_args
from mmface.utils.checkpoint import load_checkpoint_file

CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'


def test_train__writes_log_config_and_checkpoints(checkpoint):
    work = checkpoint.parent
    assert {'epoch_1.pth', 'epoch_2.pth', 'last_checkpoint'} <= {p.name for p in work.iterdir()}
    assert (work / 'last_checkpoint').read_text() == str(checkpoint)
    text = next(work.glob('*/*.log')).read_text()
    assert "type='SCRFD'" in text
    assert 'Epoch(train) [2][3/3]' in text
    assert 'wider_face/easy' in text  # the last epoch is validated


def test_train__console_has_no_chatter(run_tool, toy, small, tmp_path):
    done = run_tool(
        'tools/train.py', CONFIG, '--data-path', toy, '--work-dir', tmp_path, '--no-validate',
        '--amp', *small, 'train_cfg.max_epochs=1',
    )  # fmt: skip
    console = done.stdout + done.stderr
    assert 'OneDL' not in console
    assert 'faster_coco_eval' not in console
    assert "type='SCRFD'" not in console
    assert 'wider_face/easy' not in console
    assert len(console.splitlines()) < 25
    weights = load_checkpoint_file(tmp_path / 'epoch_1.pth')['state_dict']
    assert all(v.dtype != torch.bfloat16 and v.isfinite().all() for v in weights.values())


def test_perf__three_epochs_without_validation(door, toy, small, tmp_path):
    options = [option for option in small if 'max_epochs' not in option]  # that would act
    door(
        'tools/train.py', CONFIG, '--data-path', toy, '--work-dir', tmp_path, '--perf',
        '--auto-scale-lr', *options, 'train_dataloader.batch_size=12',
    )  # fmt: skip
    text = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Epoch(train) [3][1/1]' in text
    assert 'Epoch(val)' not in text
    assert 'based on batch size of 32 and the current batch size is 12' in text


@pytest.mark.parametrize(
    ('config', 'options', 'length'),
    [
        ('centernet2_r50_1x_1p_o1', [], 401),
        ('centernet2_r50_1x_1p_o1', ['max_iters=10'], 10),
        ('centernet2_r50_1x_1p_o1', ['train_cfg.max_iters=10'], 10),
        ('scrfd_10g', ['max_epochs=5'], 5),
    ],
)
def test_perf__a_given_length_stays(toy, config, options, length):
    more = ['--cfg-options', *options] if options else []
    train_cfg = build_config(
        parse_args([config, '--data-path', str(toy), '--perf', *more])
    ).train_cfg
    assert train_cfg.get('max_iters', train_cfg.get('max_epochs')) == length


def test_precision__o2_weights_are_plain_float32_for_the_test(door, toy, small, tmp_path):
    args = [CONFIG, '--data-path', toy, '--work-dir', tmp_path]
    o2 = ['--precision', 'o2', *small, 'optim_wrapper.dtype=bfloat16']
    door('tools/train.py', *args, '--no-validate', *o2, 'train_cfg.max_epochs=1')
    weights = load_checkpoint_file(tmp_path / 'epoch_1.pth')
    weights, state = weights['state_dict'], weights['optimizer']
    assert all(v.dtype in (torch.float32, torch.int64) for v in weights.values())
    # The master weights hold values that bfloat16 cannot represent.
    kernel = next(value for value in weights.values() if value.dim() == 4)
    assert not torch.equal(kernel, kernel.bfloat16().float())
    assert state['loss_scaler']['scale'] == 128.0
    assert state['skipped_steps'] == 0
    door('tools/train.py', *args, '--resume', '--no-validate', *o2)
    config = next(tmp_path.glob('*/vis_data/config.py')).read_text()
    assert "type='O2OptimWrapper'" in config
    result = tmp_path / 'test'
    door(
        'tools/test.py', CONFIG, tmp_path / 'epoch_2.pth', '--data-path', toy, '--work-dir', result,
        *small,
    )  # fmt: skip
    assert (result / 'metrics.json').is_file()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['configs/nope.py'], 'config configs/nope.py does not exist'),
        (['pyproject.toml'], 'config pyproject.toml: '),
        ([CONFIG, '--data-path', '/no/where'], 'data path /no/where does not exist; name'),
        ([CONFIG, '--device', 'npu', '--data-path', '.'], "device 'npu' was requested"),
        ([CONFIG, '--data-path', '.'], 'train/labelv2.txt'),
        ([CONFIG, '--launcher', 'pytorch', '--data-path', '.'], 'RANK, LOCAL_RANK, WORLD_SIZE'),
        (
            ['configs/_base_/default_runtime.py', '--data-path', '.'],
            'needs a config with data_root',
        ),
        ([CONFIG, '--data-path', '.', '--cfg-options', 'model=3', 'model.x=1'], 'TypeError'),
    ],
    ids=['config', 'no_config', 'data', 'device', 'labels', 'launcher', 'data_root', 'option'],
)
def test_bad_input__is_one_line(door, args, message, tmp_path):
    done = door('tools/train.py', *args, '--work-dir', tmp_path, ok=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith('error: ')
    assert message in done.stderr.splitlines()[-1]
    assert 'Traceback' not in done.stderr
