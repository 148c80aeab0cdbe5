# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Memory for images on their way through a pipeline."""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import NDArray


class Scratch:
    """Memory for one uint8 image at a time, used again once nobody looks at it any more.

    An image of megabytes that is allocated anew goes back to the system when it is freed, and
    every page of the next one is a fault again, which can cost as much as the work on it. An
    array from here keeps its memory as long as it, or a view of it, is in use somewhere; then
    other memory is taken. Copies and pickles begin without memory.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._memory: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._idle = sys.getrefcount(self._memory)

    def take(self, *shape: int) -> NDArray[np.uint8]:
        """Give an array of ``shape`` with any content."""
        size = math.prod(shape)
        # Views of views hold on to the memory itself, so its references tell.
        if self._memory.size < size or sys.getrefcount(self._memory) > self._idle:
            self._memory = np.empty(max(size, self._memory.size), np.uint8)
        return self._memory[:size].reshape(shape)

    def __getstate__(self) -> dict:
        """Leave the memory out."""
        return {}

    def __setstate__(self, state: dict) -> None:
        """Begin without memory."""
        self._forget()
