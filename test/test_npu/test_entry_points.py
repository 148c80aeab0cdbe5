# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The Ascend model zoo's scripts on the simulated NPU."""

from __future__ import annotations

import sys

import pytest


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
