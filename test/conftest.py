# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import io
import itertools
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the modules of slow tests, so that no worker runs one of them alone at the end."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Exclude the million objects of the libraries from garbage collection from here on.

    mmengine starts a collection for each data set that it builds.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def formatted_once():
    """Cache formatted configs: mmengine asks for it six times per run and at each save."""
    from yapf.yapflib import yapf_api

    original, known = yapf_api.FormatCode, {}

    def format_code(text, **options):
        key = text, repr(options)
        if key not in known:
            known[key] = original(text, **options)
        return known[key]

    yapf_api.FormatCode = format_code
    yield
    yapf_api.FormatCode = original


@pytest.fixture
def mmdet_scope():
    """Let pipelines find transforms by name, as inside a run."""
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(scope='session')
def repo() -> Path:
    """Return the root of the repository, for tests that run tools and load configs."""
    return REPO


@pytest.fixture(scope='session')
def reference_dir() -> Path:
    """Return the folder of golden values, published weights and real images.

    These files may not be redistributed, so a checkout does not contain them. Tests that need
    them (marker ``reference``) are skipped if MMFACE_REFERENCE is not set.
    """
    place = os.environ.get('MMFACE_REFERENCE')
    if not place:
        pytest.skip('MMFACE_REFERENCE is not set: no golden values and no real images')
    folder = Path(place)
    if not folder.is_dir():
        pytest.fail(f'MMFACE_REFERENCE={place} is not a folder')
    return folder


@pytest.fixture(scope='session')
def run_tool():
    """Run a script of this repository as a user does.

    Returns a function ``run_tool('tools/train.py', *args, ok=True)`` that returns the
    ``CompletedProcess`` (text, stdout and stderr separate). If ``ok`` is true, a non-zero
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


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    """Create a folder once for all worker processes of a run.

    Returns a function ``once(name, make)``. The first caller runs ``make(folder)`` and the others
    wait for it. Tests only read from the folder.
    """
    root = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        root = root.parent  # the folder of all workers

    def get(name: str, make) -> Path:
        folder, mark = root / f'once_{name}', root / f'once_{name}.done'
        with (root / f'once_{name}.lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not mark.exists():
                shutil.rmtree(folder, ignore_errors=True)  # left by a worker that failed
                folder.mkdir()
                make(folder)
                mark.touch()
        return folder

    return get


@pytest.fixture(scope='session')
def toy(once):
    """Draw a WIDER FACE set: 12 training and 6 validation images of 160 x 120, no edge cases."""
    from mmface.toys.widerface import make_toy_widerface

    options = dict(num_train=12, num_val=6, image_size=(160, 120), seed=3, edge_cases=False)
    return once('toy', lambda folder: make_toy_widerface(folder, **options))


@pytest.fixture(scope='session')
def door(repo):
    """Run a Python tool in this process, which saves the time to import the framework.

    Returns ``door(script, *args, ok=True)``, which is used like ``run_tool``.
    """
    numbers = itertools.count()

    def run(script, *args, ok=True):
        args = [str(arg) for arg in args]
        if '--cfg-options' in args:
            # Otherwise runs that start in the same second share a log.
            place = args.index('--cfg-options') + 1
            args.insert(place, f'experiment_name=door_{next(numbers)}')
        out, err = io.StringIO(), io.StringIO()
        before, argv, cwd, path = dict(os.environ), sys.argv, Path.cwd(), sys.path[:]
        code: object = 0  # scripts of others end without sys.exit
        try:
            os.chdir(repo)
            sys.argv = [script, *args]
            sys.path.insert(0, str((repo / script).parent))  # as Python does
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                runpy.run_path(str(repo / script), run_name='__main__')
        except SystemExit as end:
            code = end.code
        finally:
            os.chdir(cwd)
            sys.argv, sys.path[:] = argv, path
            os.environ.clear()
            os.environ.update(before)
        done = subprocess.CompletedProcess([script, *args], code, out.getvalue(), err.getvalue())
        if ok and code != 0:
            pytest.fail(f'{script} exited {code}\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}')
        return done

    return run
