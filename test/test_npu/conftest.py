# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Runs on the simulated NPU of test/npu_sim, each in a separate process.

A process can load only one backend and keeps it, so nothing of the device is imported here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmface.toys.widerface import make_toy_widerface

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / 'npu_sim' / 'build.py'
NO_COMPILER = 3  # exit status of build.py

# Small, so that it takes seconds. Without warm-up, which would change nothing in 20 iterations.
CONFIG = """
_base_ = '{repo}/configs/scrfd/{name}.py'
custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'npu_probe'], allow_failed_imports=False
)
custom_hooks = [dict(type='NpuProbe')]
image_size = ({side}, {side})
train_pipeline = _base_.train_pipeline
train_pipeline[2].update(size=image_size[0])
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=image_size)
# A model that has learnt almost nothing detects only with low scores.
model = dict(data_preprocessor=dict(pad_size=image_size), test_cfg=dict(score_thr=0.001))
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(pipeline=train_pipeline, indices={images})
)
val_dataloader = dict(num_workers=0, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
param_scheduler = []
train_cfg = dict(max_epochs={epochs}, val_interval=100)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
log_processor = dict(window_size=1)
"""


@pytest.fixture(scope='session')
def npu_env() -> dict[str, str]:
    """Return environment variables with which a subprocess finds the simulated device."""
    done = subprocess.run([sys.executable, BUILD], capture_output=True, text=True, timeout=900)
    if done.returncode == NO_COMPILER:
        pytest.skip(f'the simulated NPU cannot be compiled: {done.stderr.strip()}')
    assert done.returncode == 0, f'the simulated NPU did not compile\n{done.stderr[-6000:]}'
    paths = [str(BUILD.parent / 'stub'), str(HERE / 'probe'), os.environ.get('PYTHONPATH', '')]
    return {
        'NPUSIM_SO': done.stdout.strip(),
        'PYTHONPATH': os.pathsep.join(filter(None, paths)),
        'OMP_NUM_THREADS': '1',
    }


@pytest.fixture(scope='session')
def cpu_env() -> dict[str, str]:
    """Return the same variables without the device."""
    paths = [str(HERE / 'probe'), os.environ.get('PYTHONPATH', '')]
    return {'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'OMP_NUM_THREADS': '1'}


@pytest.fixture
def on_npu(npu_env, tmp_path):
    """Return ``on_npu(code, **env)``: it runs Python code on the device and fails on an error."""

    def run(code: str, **env: str) -> str:
        script = tmp_path / 'script.py'
        script.write_text(code)
        done = subprocess.run(
            [sys.executable, script],
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, **npu_env, **env},
        )
        assert done.returncode == 0, f'{done.stdout[-2000:]}\n{done.stderr[-4000:]}'
        return done.stdout

    return run


@pytest.fixture(scope='session')
def toy(once) -> Path:
    """Return 20 training and 4 validation images."""
    options = dict(num_train=20, num_val=4, image_size=(160, 120), seed=3, edge_cases=False)
    return once('npu_toy', lambda folder: make_toy_widerface(folder, **options))


@pytest.fixture(scope='session')
def small_config(repo, tmp_path_factory):
    """Return ``small_config('scrfd_10g', epochs=2)``: it writes a small config of a model."""
    folder = tmp_path_factory.mktemp('configs')

    def write(name: str, epochs: int = 1, images: int = 20, side: int = 128) -> Path:
        path = folder / f'{name}_{epochs}_{images}_{side}.py'
        path.write_text(
            CONFIG.format(repo=repo, name=name, epochs=epochs, images=images, side=side)
        )
        return path

    return write


@pytest.fixture(scope='session')
def read_probe():
    """Return ``read_probe(work_dir, rank=0)``: it reads the file of ``NpuProbe``."""

    def read(work: Path, rank: int = 0) -> dict:
        return json.loads((work / f'probe_{rank}.json').read_text())

    return read
