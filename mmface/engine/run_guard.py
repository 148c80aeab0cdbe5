# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Context of a run: the lock of its folder and clear messages when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_distributed

from mmface.engine.dist import leave_distributed
from mmface.engine.loader_workers import killed_worker
from mmface.engine.work_dir_lock import WorkDirLock
from mmface.utils.stop_signals import release_stop_signals

#: Messages of gloo when the process at the other end has ended.
LOST_RANK = ('Connection closed by peer', 'Connection reset by peer')


@contextmanager
def guard_training(runner: Any) -> Iterator[None]:
    """Hold the lock of the work dir during a training.

    Rank 0 holds it for all. If it is refused, all ranks raise the same error.

    Raises:
        ValueError: Another training writes to the same folder.
        KeyboardInterrupt: Ctrl-C was pressed; the message names the checkpoint to continue from.
        SystemExit: The training was asked to stop. All ranks leave the process group first.
        ChildProcessError, ConnectionError: See :func:`clear_errors`.
    """
    stopped = False
    try:
        with ExitStack() as stack, clear_errors(runner):
            refusal = [None]
            if runner.rank == 0:
                try:
                    stack.enter_context(WorkDirLock(runner.work_dir))
                except ValueError as error:
                    refusal = [error]  # type: ignore[list-item]
            if is_distributed():
                broadcast_object_list(refusal)
            if refusal[0] is not None:
                raise refusal[0]
            yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f'interrupted; {_where_to_go_on(runner)}') from error
    except SystemExit as stop:
        stopped = True
        leave_distributed(int(stop.code or 0))
        raise
    finally:
        if not stopped:
            release_stop_signals()


@contextmanager
def clear_errors(runner: Any) -> Iterator[None]:
    """Raise a clear error if a loader worker or another rank has ended.

    Raises:
        ChildProcessError: A loader worker was killed.
        ConnectionError: Another rank ended.
    """
    try:
        yield
    except Exception as error:
        # torch raises from a signal handler, wherever the main thread is: in code that makes
        # another error of it, too.
        text = next(filter(None, map(killed_worker, _chain(error))), None)
        if text is not None:
            raise ChildProcessError(text) from error
        if is_distributed() and any(sign in str(error) for sign in LOST_RANK):
            raise ConnectionError(
                f'rank {runner.rank} ends because another rank ended; the output of that rank '
                'shows the reason'
            ) from error
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Iterate over an error and those that it came from."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _where_to_go_on(runner: Any) -> str:
    note = Path(runner.work_dir) / 'last_checkpoint'
    if not note.is_file():
        return 'nothing was saved yet'
    path = note.read_text(encoding='utf-8').strip()
    return f'continue from {path} with --resume (resume=True in a config)'
