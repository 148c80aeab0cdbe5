# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The tools on the simulated NPU, used as by a user."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from mmface.utils.checkpoint import load_checkpoint_file

#: Module of mmengine that reads the first value of each loss, for the log.
LOGGER = 'mmengine.logging.message_hub'
#: Module of ours that reads the others when a line is written: here in every iteration.
LATE = 'mmface.engine.late_history'
#: Modules of loss scalers, which read whether there was an overflow.
SCALERS = ('torch.npu.amp', 'torch_npu.npu.amp', 'torch.amp.grad_scaler')

# Four images, memorized in 85 iterations.
FIT_CONFIG = """
_base_ = '{repo}/configs/scrfd/scrfd_500m_bnkps_toy.py'
image_size = (128, 128)
train_pipeline = [
    dict(type='SeedSample'),
    dict(type='LoadFaceImage'),
    dict(type='LoadFaceAnnotations'),
    dict(type='FaceResize', scale=image_size, keep_ratio=True),
    dict(type='PackFaceInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=image_size)
model = dict(data_preprocessor=dict(pad_size=image_size))
images = dict(ann_file='val/labelv2.txt', data_prefix=dict(img_path='val/images/'))
train_dataloader = dict(
    batch_size=4, num_workers=0, dataset=dict(pipeline=train_pipeline, **images)
)
val_dataloader = dict(num_workers=0, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[70], gamma=0.1)]
train_cfg = dict(max_epochs=85, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=100))
"""


def _losses(work: Path) -> list[dict[str, float]]:
    (path,) = work.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if 'loss' in k} for line in lines if 'loss' in line]


def _waits(probe: dict) -> Counter[tuple[str, str, str, str]]:
    """Count the waits of a run by kind, package, module (no line numbers) and ``via``."""
    table: Counter[tuple[str, str, str, str]] = Counter()
    for kind, package, place, via, count in probe['waits']:
        table[kind, package, place.partition(':')[0], via] += count
    return table


def _own_waits(probe: dict) -> Counter[tuple[str, str, str, str]]:
    """Count the waits of mmface, without those for the lines of the log."""
    table = _waits(probe)
    return Counter({row: table[row] for row in table if row[1] == 'mmface' and row[2] != LATE})


def _show(title: str, probe: dict) -> None:
    """Print the table of waits, which pytest shows with -s and on failure."""
    print(f'\n{title}, {probe["iterations"]} iterations:')
    for (kind, package, place, via), count in sorted(_waits(probe).items()):
        print(f'  {count:4d} {kind:8s} {package:10s} {place}' + (f' via {via}' if via else ''))


@pytest.fixture(scope='module')
def trained(run_tool, npu_env, toy, small_config, tmp_path_factory):
    """Return the work dir and console of 20 iterations of scrfd_10g on the NPU."""
    work = tmp_path_factory.mktemp('npu')
    done = run_tool(
        'tools/train.py', small_config('scrfd_10g', epochs=2), '--data-path', toy, '--work-dir',
        work, '--seed', 1, '--no-validate', **npu_env,
    )  # fmt: skip
    return work, done.stdout + done.stderr


def test_fp32__is_chosen_and_equals_the_cpu(
    run_tool, cpu_env, trained, read_probe, toy, small_config, tmp_path
):
    """Check that the device is found by itself and that the losses equal those of the CPU.

    Observed: no difference in any digit, also not in the weights.
    """
    work, console = trained
    assert 'device npu x 1' in console
    npu = read_probe(work)
    assert npu['device'] == 'npu:0'
    assert npu['optimizer'] == 'NpuFusedSGD'
    assert npu['model_dtypes'] == ['torch.float32']
    assert {op for op in npu['ops'] if op.startswith('convolution.')} == {'convolution.Float'}
    assert npu['ops']['native_batch_norm'] > 0

    run_tool(
        'tools/train.py', small_config('scrfd_10g', epochs=2), '--data-path', toy, '--work-dir',
        tmp_path, '--seed', 1, '--no-validate', '--cfg-options',
        # As on the NPU. In workers, pixels and sums are rounded at other points.
        'train_dataloader.dataset.pipeline.4.on_device=True', 'cpu_channels_last=False', **cpu_env,
    )  # fmt: skip
    assert read_probe(tmp_path)['device'] == 'cpu'
    ours, theirs = _losses(work), _losses(tmp_path)
    assert len(ours) == len(theirs) == 20
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == {'loss', 'loss_cls', 'loss_bbox'}
        assert a == pytest.approx(b, rel=1e-6)
    # If nothing had been learnt, equal losses would prove nothing.
    assert ours[-1]['loss_cls'] > 10 * ours[0]['loss_cls']


def test_training_step__nothing_of_ours_waits_for_the_device(trained, read_probe):
    probe = read_probe(trained[0])
    _show('fp32', probe)
    assert not _own_waits(probe)
    reads = {row: count for row, count in _waits(probe).items() if row[0] != 'upload'}
    assert reads == {
        ('item', 'mmengine', LOGGER, ''): 3,
        ('copy', 'mmface', LATE, ''): 3 * (probe['iterations'] - 1),
    }


def test_checkpoint__resumes_on_the_npu(
    run_tool, npu_env, trained, read_probe, toy, small_config, tmp_path
):
    """Check that it is exact to the last bit, including momentum."""
    work, _ = trained
    run_tool(
        'tools/train.py', small_config('scrfd_10g', epochs=2), '--data-path', toy, '--work-dir',
        tmp_path, '--no-validate', '--resume', work / 'epoch_1.pth', **npu_env,
    )  # fmt: skip
    resumed, unbroken = read_probe(tmp_path), read_probe(work)
    assert (resumed['iterations'], unbroken['iterations']) == (10, 20)
    assert resumed['model_sha'] == unbroken['model_sha']
    assert not (tmp_path / 'epoch_1.pth').exists()


def test_learnt_on_the_npu__tests_alike_on_the_cpu(run_tool, npu_env, cpu_env, repo, toy, tmp_path):
    """Check AdamW on four images. mmcv's CPU build has no NMS for the NPU, which is logged once."""
    config = tmp_path / 'fit.py'
    config.write_text(FIT_CONFIG.format(repo=repo))
    data = ['--data-path', toy]
    done = run_tool(
        'tools/train.py', config, *data, '--work-dir', tmp_path, '--seed', 1, '--no-validate',
        **npu_env,
    )  # fmt: skip
    assert 'Optimizer: NpuFusedAdamW' in done.stdout + done.stderr
    metrics = {}
    for device, env, warnings in (('npu', npu_env, 1), ('cpu', cpu_env, 0)):
        work = tmp_path / device
        done = run_tool(
            'tools/test.py', config, tmp_path / 'epoch_85.pth', *data, '--work-dir', work, **env
        )
        console = done.stdout + done.stderr
        assert console.count("mmcv was built without its operator 'nms' for npu") == warnings
        metrics[device] = json.loads((work / 'metrics.json').read_text())
    print('\nAP on both devices:', metrics['npu']['ap'])
    assert metrics['npu'] == metrics['cpu']
    assert metrics['npu']['ap']['hard'] > 0.5


def test_o1__all_convolutions_run_in_half(
    run_tool, npu_env, read_probe, toy, small_config, tmp_path
):
    run_tool(
        'tools/train.py', small_config('scrfd_500m', images=10, side=64), '--data-path', toy,
        '--work-dir', tmp_path, '--seed', 1, '--no-validate', '--amp', **npu_env,
    )  # fmt: skip
    probe = read_probe(tmp_path)
    _show('O1', probe)
    assert probe['wrapper'] == 'AutocastOptimWrapper'
    assert {op for op in probe['ops'] if op.startswith('convolution.')} == {'convolution.Half'}
    assert probe['model_dtypes'] == ['torch.float32']
    assert all(math.isfinite(x) for line in _losses(tmp_path) for x in line.values())
    assert not _own_waits(probe)


def _check_o2(probe: dict) -> None:
    assert probe['wrapper'] == 'O2OptimWrapper'
    assert probe['optimizer'] == 'NpuFusedSGD'
    assert {op for op in probe['ops'] if op.startswith('convolution.')} == {'convolution.Half'}
    assert probe['model_dtypes'] == ['torch.float16', 'torch.float32']
    assert probe['optimizer_dtypes'] == ['torch.float32']
    ours = _own_waits(probe)
    assert {via for _, _, _, via in ours} <= set(SCALERS), ours
    # One reading per step: was there an overflow?
    assert sum(ours.values()) <= probe['iterations'] + 1


def test_o2__stays_o2_on_chips_of_the_first_generation_and_resumes(
    run_tool, npu_env, read_probe, toy, small_config, tmp_path
):
    """Check a chip on which mmengine replaces other wrappers with its own."""
    unbroken, resumed = tmp_path / 'unbroken', tmp_path / 'resumed'
    args = [
        'tools/train.py', small_config('scrfd_500m', epochs=2, images=8, side=64),
        '--data-path', toy, '--no-validate', '--precision', 'o2',
    ]  # fmt: skip
    env = {**npu_env, 'NPUSIM_SOC': '102'}
    run_tool(*args, '--work-dir', unbroken, '--seed', 1, **env)
    probe = read_probe(unbroken)
    _show('O2', probe)
    _check_o2(probe)
    assert probe['model_sha'] != probe['optimizer_sha']
    assert all(math.isfinite(x) for line in _losses(unbroken) for x in line.values())
    weights = load_checkpoint_file(unbroken / 'epoch_1.pth')['state_dict']
    assert {str(value.dtype) for value in weights.values()} == {'torch.float32', 'torch.int64'}

    run_tool(*args, '--work-dir', resumed, '--resume', unbroken / 'epoch_1.pth', **env)
    assert read_probe(resumed)['iterations'] == 4
    assert read_probe(resumed)['optimizer_sha'] == probe['optimizer_sha']


def test_o2__two_ranks_hold_the_same_masters(
    run_tool, npu_env, read_probe, toy, small_config, tmp_path
):
    done = run_tool(
        'tools/dist_train.sh', small_config('scrfd_500m', images=12, side=64), 2,
        '--data-path', toy, '--work-dir', tmp_path, '--seed', 1, '--no-validate',
        '--precision', 'o2', **npu_env,
    )  # fmt: skip
    assert 'device npu x 2' in done.stdout + done.stderr
    first, second = read_probe(tmp_path, 0), read_probe(tmp_path, 1)
    _show('O2, two ranks', first)
    assert (first['device'], second['device']) == ('npu:0', 'npu:1')
    for probe in (first, second):
        assert probe['iterations'] == 3
        _check_o2(probe)
    assert first['optimizer_sha'] == second['optimizer_sha']
    assert first['model_sha'] == second['model_sha']


@pytest.mark.slow
def test_o2__eight_ranks_make_a_step(run_tool, npu_env, read_probe, toy, small_config, tmp_path):
    done = run_tool(
        'tools/dist_train.sh', small_config('scrfd_500m_bnkps', images=16, side=64), 8,
        '--data-path', toy, '--work-dir', tmp_path, '--seed', 1, '--no-validate',
        '--precision', 'o2', NPUSIM_DEVICES='8', **npu_env,
    )  # fmt: skip
    assert 'device npu x 8' in done.stdout + done.stderr
    probes = [read_probe(tmp_path, rank) for rank in range(8)]
    assert [probe['device'] for probe in probes] == [f'npu:{rank}' for rank in range(8)]
    assert {probe['iterations'] for probe in probes} == {1}
    assert len({probe['optimizer_sha'] for probe in probes}) == 1
