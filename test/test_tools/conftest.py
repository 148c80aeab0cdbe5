# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A toy data set and a training of seconds for the tests of the doors."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mmface.toys.widerface import make_toy_widerface

CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'
SIDE = '(96,96)'


@pytest.fixture(scope='session')
def toy(tmp_path_factory):
    """12 training and 6 validation pictures."""
    root = tmp_path_factory.mktemp('toy')
    return make_toy_widerface(
        root, num_train=12, num_val=6, image_size=(160, 120), seed=3, edge_cases=False
    )


@pytest.fixture(scope='session')
def small():
    """Options that make the config small: batches of 4, 96 pixels, no workers, 2 epochs."""
    return [
        '--cfg-options',
        'train_cfg.max_epochs=2',
        'train_cfg.val_interval=10',
        'train_dataloader.batch_size=4',
        'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
        'test_dataloader.num_workers=0',
        'train_dataloader.dataset.pipeline.2.size=96',
        f'val_dataloader.dataset.pipeline.1.scale={SIDE}',
        f'test_dataloader.dataset.pipeline.1.scale={SIDE}',
        f'model.data_preprocessor.pad_size={SIDE}',
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.interval=1',
    ]


@pytest.fixture(scope='session')
def door(repo):
    """Run a Python tool in this process, which saves importing the framework.

    Returns ``door(script, *args, ok=True)``, to be used as ``run_tool``.
    """
    numbers = itertools.count()

    def run(script, *args, ok=True):
        args = [str(arg) for arg in args]
        if '--cfg-options' in args:
            # Runs of the same second share a log otherwise.
            place = args.index('--cfg-options') + 1
            args.insert(place, f'experiment_name=door_{next(numbers)}')
        out, err = io.StringIO(), io.StringIO()
        before, argv, cwd = dict(os.environ), sys.argv, Path.cwd()
        try:
            os.chdir(repo)
            sys.argv = [script, *args]
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                runpy.run_path(str(repo / script), run_name='__main__')
        except SystemExit as end:
            code = end.code
        finally:
            os.chdir(cwd)
            sys.argv = argv
            os.environ.clear()
            os.environ.update(before)
        done = subprocess.CompletedProcess([script, *args], code, out.getvalue(), err.getvalue())
        if ok and code != 0:
            pytest.fail(f'{script} exited {code}\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}')
        return done

    return run


@pytest.fixture(scope='session')
def checkpoint(door, toy, small, tmp_path_factory):
    """The work dir of two epochs of training."""
    work = tmp_path_factory.mktemp('trained')
    door('tools/train.py', CONFIG, '--data-path', toy, '--work-dir', work, '--seed', 5, *small)
    return work / 'epoch_2.pth'
