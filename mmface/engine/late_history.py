# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Logged scalars that stay on the device until somebody reads them."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

_MOST = 1000  # tensors that wait, each of which holds a block of the device's memory


class LateHistoryBuffer(HistoryBuffer):
    """A ``HistoryBuffer`` that takes tensors and copies them to the host when it is read.

    Every reader gets the values that the ordinary buffer would have. A checkpoint contains the
    ordinary buffer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._waiting: list[Tensor] = []
        super().__init__(*args, **kwargs)

    @classmethod
    def of(cls, buffer: HistoryBuffer) -> LateHistoryBuffer:
        """Return a buffer with the values of another one."""
        return cls(*buffer.data, max_length=buffer.max_length)

    def update_late(self, value: Tensor) -> None:
        """Append a tensor with one element. It must not be changed later."""
        self._waiting.append(value.detach().reshape(()))
        if len(self._waiting) >= _MOST:  # nobody reads
            self._read()

    @property
    def _log_history(self) -> np.ndarray:
        self._read()
        return self._values

    @_log_history.setter
    def _log_history(self, values: np.ndarray) -> None:
        self._read()
        self._values = values

    @property
    def _count_history(self) -> np.ndarray:
        self._read()
        return self._counts

    @_count_history.setter
    def _count_history(self, counts: np.ndarray) -> None:
        self._read()
        self._counts = counts

    def _read(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        values: list[float] = []
        for _, group in groupby(waiting, key=lambda value: (value.dtype, value.device)):
            values += torch.stack(list(group)).tolist()
        # Lengths are limited as ``update`` does.
        self._values = np.append(self._values, values)[-self.max_length :]
        self._counts = np.append(self._counts, np.ones(len(values)))[-self.max_length :]

    def __reduce__(self) -> tuple:
        return HistoryBuffer, (*self.data, self.max_length)


def update_late(hub: MessageHub, key: str, value: Tensor) -> None:
    """Log a tensor with one element without waiting for its device.

    Only the first value of a key is read at once.

    Raises:
        ValueError: The tensor has more than one element.
    """
    if value.numel() != 1:
        raise ValueError(f'{key}: expected one element, found the shape {tuple(value.shape)}')
    buffer = hub.log_scalars.get(key)
    if isinstance(buffer, LateHistoryBuffer):
        buffer.update_late(value)
        return
    hub.update_scalar(key, value)
    hub.log_scalars[key] = LateHistoryBuffer.of(hub.log_scalars[key])
