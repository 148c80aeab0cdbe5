# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""One training per folder; more tests are in test/faults/lock_cases.py."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from mmface.engine.work_dir_lock import LOCK_FILE, WorkDirLock


def _hold(folder, ready, over):
    with WorkDirLock(folder):
        ready.set()
        over.wait(60)


@pytest.fixture
def held(tmp_path):
    """Yield a folder in which another process trains, and that process."""
    context = multiprocessing.get_context('fork')
    ready, over = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / 'run', ready, over))
    holder.start()
    assert ready.wait(60)
    yield tmp_path / 'run', holder
    over.set()
    holder.join()


def test_train__is_refused_where_another_trains(held, small_run):
    folder, holder = held
    runner = small_run('run', epochs=1)
    with pytest.raises(ValueError, match=f'{folder} is in use') as error:
        runner.train()
    assert f'process {holder.pid} on' in str(error.value)
    assert f'remove {folder / LOCK_FILE}' in str(error.value)
    assert runner.iter == 0


def test_lock__is_free_again(tmp_path):
    for _ in range(2):
        with WorkDirLock(tmp_path) as lock:
            assert f'"pid": {os.getpid()}' in lock.path.read_text()
        assert not lock.path.exists()


@pytest.mark.parametrize('content', ['', '{', '[1]', '{"pid": "x"}'])
def test_lock__content_that_is_cut_is_nobody(tmp_path, content):
    (tmp_path / LOCK_FILE).write_text(content)
    with WorkDirLock(tmp_path):
        pass


def test_train__again_in_the_same_process(small_run):
    small_run('run', epochs=1).train()
    small_run('run', epochs=2, resume=True).train()
