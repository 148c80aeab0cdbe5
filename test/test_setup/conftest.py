# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Provide a copy of the set-up scripts that can run without changing this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
# Variables of another machine or environment. Each test sets those that it needs.
HIDDEN = [
    'VIRTUAL_ENV',
    'CONDA_PREFIX',
    'ASCEND_HOME_PATH',
    'ASCEND_TOOLKIT_HOME',
    'CUDA_HOME',
    'CXX',
]


@pytest.fixture(scope='session')
def empty_venv(tmp_path_factory) -> Path:
    """Return the Python of a virtual environment without any package."""
    folder = tmp_path_factory.mktemp('env') / 'venv'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder], check=True)
    return folder / 'bin' / 'python'


@pytest.fixture
def fake_package(tmp_path):
    """Put a module before all installed ones on Python's path: ``fake_package(name, code)``."""

    def write(name: str, code: str) -> Path:
        path = tmp_path / 'fakes' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        return tmp_path / 'fakes'

    return write


@pytest.fixture
def build_mmcv(tmp_path):
    """Run a copy of build_mmcv.sh: ``build_mmcv(*args, **env)`` returns the completed process."""
    place = tmp_path / 'checkout'
    shutil.copytree(REPO / 'tools' / 'setup', place / 'tools' / 'setup')
    for name in ('build_mmcv.sh', 'pyproject.toml', 'setup.py'):
        shutil.copy(REPO / name, place / name)
    (place / 'mmface').symlink_to(REPO / 'mmface')

    def run(*args: object, **env: object) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if key not in HIDDEN}
        given = {'MMFACE_CACHE': tmp_path / 'cache', **env}
        return subprocess.run(
            ['bash', str(place / 'build_mmcv.sh'), *map(str, args)],
            capture_output=True,
            text=True,
            timeout=600,
            env={**clean, **{key: str(value) for key, value in given.items()}},
        )

    return run
