# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Reusable memory for images in a pipeline."""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import NDArray


class Scratch:
    """Memory for one uint8 image at a time, reused when no array refers to it any more.

    A newly allocated image of several megabytes is returned to the system when it is freed.
    Every page of the next image then causes a page fault, which can cost as much as the work on
    it. An array from here keeps its memory while the array or a view of it is in use. During
    that time, other memory is taken. Copies and pickles start without memory.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._memory: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._idle = sys.getrefcount(self._memory)

    def take(self, *shape: int) -> NDArray[np.uint8]:
        """Return an array of ``shape`` with undefined content."""
        size = math.prod(shape)
        # Views of views refer to the memory itself, so its reference count tells if it is used.
        if self._memory.size < size or sys.getrefcount(self._memory) > self._idle:
            self._memory = np.empty(max(size, self._memory.size), np.uint8)
        return self._memory[:size].reshape(shape)

    def __getstate__(self) -> dict:
        """Return an empty state: the memory is not pickled."""
        return {}

    def __setstate__(self, state: dict) -> None:
        """Start without memory."""
        self._forget()
