# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Work on items in several threads and get the results in order."""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast

T = TypeVar('T')
R = TypeVar('R')


def usable_cores(quota: Path = Path('/sys/fs/cgroup/cpu.max')) -> int:
    """Return the number of CPU cores that this process may use.

    Args:
        quota: Where Linux states the share of a container: microseconds of CPU time, or ``max``,
            in a period of microseconds.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        allowed, period = map(int, quota.read_text().split())
    except (OSError, ValueError):  # no container, or one without a limit
        return cores
    return max(1, min(cores, math.ceil(allowed / period)))


class PixelGate:
    """Lets threads work on images at the same time as long as they have few pixels together.

    The images are let through in the order in which they come, so none waits forever.

    Args:
        limit: Number of pixels. A larger image is let through when no other one is inside.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until an image of ``pixels`` fits, and keep its place until the block ends."""
        place = object()

        def free() -> bool:
            fits = not self.inside or self.inside + pixels <= self.limit
            return fits and self._waiting[0] is place

        with self._changed:
            self._waiting.append(place)
            try:
                self._changed.wait_for(free)
                self.inside += pixels
            finally:
                self._waiting.remove(place)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self.inside -= pixels
                self._changed.notify_all()


def ordered(
    items: Iterable[T], work: Callable[[T], R], workers: int, ahead: int | None = None
) -> Generator[R, None, None]:
    """Call ``work`` for each item in threads, and yield the results in the order of the items.

    ``items`` is read only as far as needed, so at most ``workers + ahead`` items and results are
    in memory. When the caller stops early, or an exception is raised, no further item is started
    and the calls that run already are awaited. So a call that writes a file finishes it.

    Args:
        items: The items. Their iterator runs in the thread of the caller.
        work: A function that several threads may call at once. Most of its time should be spent
            outside of Python (OpenCV, onnxruntime, files). An exception of it is raised when the
            turn of its item comes.
        workers: Number of threads. With 0, ``work`` runs in the thread of the caller.
        ahead: Number of items that may wait for a thread or for the caller. Default: ``workers``.

    Yields:
        The results.
    """
    if workers < 1:
        yield from map(work, items)
        return
    limit = workers + (workers if ahead is None else ahead)
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix='mmface')
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= limit:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def read_ahead(items: Iterable[T], ahead: int) -> Generator[T, None, None]:
    """Iterate over ``items`` in a thread of its own, which is at most ``ahead`` items in advance.

    When the caller stops early, the item that is being made is awaited. Close the generator before
    what it reads from is closed.

    Args:
        items: The items. Only that thread uses their iterator.
        ahead: Number of items.

    Yields:
        The items.
    """
    iterator, end = iter(items), object()
    turns = itertools.repeat(iterator)
    with closing(ordered(turns, lambda each: next(each, end), 1, ahead)) as read:
        for item in read:
            if item is end:
                return
            yield cast(T, item)


class Behind:
    """Does calls in a thread of its own, one after the other, while its owner goes on.

    Use it in a ``with`` block. At its end, the calls that wait are done; after an exception, only
    the one that runs is.

    Args:
        limit: Number of calls that may wait or run. A further one makes the owner wait.
    """

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 1)
        self._waiting: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='mmface-behind')

    def call(self, work: Callable[[T], None], item: T) -> None:
        """Call ``work(item)`` later.

        Raises:
            Exception: What an earlier call has raised.
        """
        self._waiting.append(self._pool.submit(work, item))
        # An interruption during the wait loses neither this item nor an error of an earlier call.
        while len(self._waiting) > self._limit:
            self._waiting[0].result()
            self._waiting.popleft()

    def __enter__(self) -> Behind:
        """Return this object."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the calls.

        Raises:
            Exception: What a call has raised, if the block has not raised anything itself.
        """
        try:
            while self._waiting and kind is None:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
