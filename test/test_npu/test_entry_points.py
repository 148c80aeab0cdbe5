# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The Ascend model zoo's scripts on the simulated NPU."""

from __future__ import annotations

import json
import sys

import pytest

from mmface.toys.coco import make_toy_coco
from mmface.utils.entry_point import find_recipe

QUICK = [
    '--image-size', '64', '--cfg-options', 'train_dataloader.batch_size=1',
    'train_dataloader.num_workers=0', 'default_hooks.logger.interval=1',
    'log_processor.window_size=1',
]  # fmt: skip
#: An eighth of the channels, few boxes.
NARROW = [
    'model.backbone.base_channels=8', 'model.backbone.stem_channels=8',
    'model.neck.in_channels=[32,64,128,256]', 'model.roi_head.bbox_head.fc_out_channels=16',
    'model.roi_head.bbox_head.num_classes=5', 'model.train_cfg.rpn_proposal.max_per_img=64',
    'model.train_cfg.rcnn.num_samples=32', 'optim_wrapper.optimizer.lr=0.001',
    "train_dataloader.dataset.metainfo.classes=('ball','ring','star','cross','house')",
]  # fmt: skip


@pytest.fixture
def measure(run_tool, npu_env, toy, small_config, tmp_path):
    """Return a function that runs a performance script; it returns the console and the summary."""

    def run(script: str, *flags: str, **env: str) -> tuple[str, dict[str, str]]:
        config = small_config('scrfd_10g', images=12)
        done = run_tool(
            f'test/{script}', f'--data_path={toy}', f'--network={config}',
            '--num_epochs=1', '--precision=o2',
            f'--output_dir={tmp_path}', *flags, VIRTUAL_ENV=sys.prefix, **npu_env, **env,
        )  # fmt: skip
        (summary,) = tmp_path.glob('*/*_perf.log')
        lines = summary.read_text().splitlines()
        return done.stdout, {'file': summary.name, **dict(x.split(' = ') for x in lines)}

    return run


def test_performance_1p__in_o2(measure, read_probe, tmp_path):
    console, summary = measure('train_performance_1p.sh')
    assert 'device npu x 1' in console
    assert f'Final Performance images/sec : {summary["ActualFPS"]}\n' in console
    (work,) = (tmp_path / '0').glob('run_*')
    probe = read_probe(work)
    assert (probe['device'], probe['wrapper']) == ('npu:0', 'O2OptimWrapper')
    assert summary['file'].endswith('_bs2_1p_perf.log')
    assert (summary['RankSize'], summary['BatchSize']) == ('1', '2')
    assert float(summary['ActualFPS']) > 0


def test_performance_8p__two_processes_on_devices_of_their_own(measure, read_probe, tmp_path):
    """Use devices 1 and 3 of four; within the job they are numbered from 0, as by CANN."""
    console, summary = measure(
        'train_performance_8p.sh', '--world_size=2', '--device_list=1,3', NPUSIM_DEVICES='4'
    )
    assert 'device npu x 2' in console
    (work,) = (tmp_path / '1').glob('run_*')
    probes = [read_probe(work, rank) for rank in range(2)]
    assert [probe['device'] for probe in probes] == ['npu:0', 'npu:1']
    assert {probe['wrapper'] for probe in probes} == {'O2OptimWrapper'}
    assert len({probe['optimizer_sha'] for probe in probes}) == 1
    assert summary['file'].endswith('_bs2_2p_perf.log')
    assert (summary['RankSize'], summary['BatchSize']) == ('2', '2')
    assert (tmp_path / '3' / 'train_3.log').is_file()


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    options = dict(num_train=20, num_val=2, image_size=(160, 120), seed=1, edge_cases=False)
    return make_toy_coco(tmp_path_factory.mktemp('coco') / 'coco2017', **options)


@pytest.mark.parametrize(
    ('network', 'precision', 'options'),
    [
        ('centerface', 'precision o1, loss scale 19', []),
        ('centernet2_r50_1x', 'precision o1, loss scale 128', NARROW),
    ],
)
def test_8p__losses_are_those_of_the_training_tool(
    run_tool, npu_env, toy, request, tmp_path, network, precision, options
):
    """Ten iterations on two devices, in the precision of the recipe. SCRFD: see above."""
    data = toy if options == [] else request.getfixturevalue('coco')
    done = run_tool(
        'test/train_performance_8p.sh', f'--data_path={data}', f'--network={network}', '--seed=7',
        '--world_size=2', '--num_epochs=1', '--from_scratch', f'--output_dir={tmp_path / "out"}',
        f'--work_dir={tmp_path / "entry"}', '--', *QUICK, *options, VIRTUAL_ENV=sys.prefix,
        **npu_env,
    )  # fmt: skip
    assert f'{precision}, 2 card(s), batch 1 per card' in done.stdout
    run_tool(
        'tools/dist_train.sh', find_recipe(network, 8).config, 2, '--data-path', data, '--seed', 7,
        '--num-epochs', 1, '--from-scratch', '--no-validate', '--work-dir', tmp_path / 'tool',
        *QUICK, *options, **npu_env,
    )  # fmt: skip
    losses = []
    for name in ('entry', 'tool'):
        (log,) = (tmp_path / name).glob('*/vis_data/scalars.json')
        rows = map(json.loads, log.read_text().splitlines())
        losses.append([row['loss'] for row in rows if 'loss' in row])
    assert len(losses[0]) == 10
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 10
