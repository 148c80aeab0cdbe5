# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def repo() -> Path:
    """Root of the repository, for tests that run tools and load configs."""
    return REPO


@pytest.fixture(scope='session')
def reference_dir() -> Path:
    """Folder of golden values, published weights and real pictures.

    They may not be redistributed, so a checkout does not hold them; the tests that
    need them (marker ``reference``) are skipped when the folder is not named.
    """
    place = os.environ.get('MMFACE_REFERENCE')
    if not place:
        pytest.skip('MMFACE_REFERENCE is not set: no golden values and real pictures here')
    folder = Path(place)
    if not folder.is_dir():
        pytest.fail(f'MMFACE_REFERENCE={place} is not a folder')
    return folder


@pytest.fixture(scope='session')
def run_tool():
    """Run a script of this repository as a user does.

    Returns a function ``run_tool('tools/train.py', *args, ok=True)`` giving the
    ``CompletedProcess`` (text, stdout and stderr apart). With ``ok`` true a non-zero
    exit status fails the test and shows the output.
    """

    def run(script: str, *args: object, ok: bool = True, timeout: float = 600, **env: str):
        path = REPO / script
        command = ['bash', str(path)] if path.suffix == '.sh' else [sys.executable, str(path)]
        done = subprocess.run(
            [*command, *map(str, args)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=REPO,
            env={**os.environ, **env},
        )
        if ok and done.returncode != 0:
            pytest.fail(
                f'{script} exited {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}'
            )
        return done

    return run
