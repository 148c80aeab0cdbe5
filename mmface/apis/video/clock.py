# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Make time stamps increase."""

from __future__ import annotations


class Clock:
    """Time stamps that increase, whatever the file says.

    Joined and damaged recordings restart their time stamps, and some files have none.

    Args:
        step: Seconds from one item to the next, where the file does not say it.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._shift = 0.0
        self._last: float | None = None

    def next(self, seconds: float | None) -> float:
        """Return the time of the next item.

        Args:
            seconds: Its time in the file, ``None`` if the file does not have it.
        """
        expected = 0.0 if self._last is None else self._last + self._step
        time = expected if seconds is None else seconds + self._shift
        if self._last is not None and time <= self._last:
            self._shift += expected - time
            time = expected
        self._last = time
        return time
