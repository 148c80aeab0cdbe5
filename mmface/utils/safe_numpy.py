# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Stand-ins under numpy's names while a checkpoint is read: numpy's own crash on forged states."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_KINDS = 'biufc'  # truth values and numbers


class SafeDType:
    """Stand in for ``numpy.dtype``; only numbers have one."""

    def __init__(self, spec: Any, *_: Any) -> None:
        dtype = np.dtype(spec) if isinstance(spec, str) else None
        if dtype is None or dtype.kind not in _KINDS:
            raise ValueError(f'an array of {spec!r}, not of numbers')
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ('<', '>', '|', '='):  # version, byte order, then what structures have
            raise ValueError(f'byte order {state[1]!r}')
        self.dtype = self.dtype.newbyteorder(state[1])


class SafeArray(np.ndarray):
    """An array whose state is checked; saved again it is a plain array."""

    def __setstate__(self, state: tuple) -> None:  # type: ignore[override]
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, SafeDType) or not isinstance(content, bytes):
            raise ValueError('an array without a type or content')
        if any(side < 0 for side in shape) or (
            math.prod(shape) * dtype.dtype.itemsize != len(content)
        ):
            raise ValueError(f'an array of shape {shape} has {len(content)} bytes')
        plain: Any = (1, tuple(shape), dtype.dtype, bool(fortran), content)
        super().__setstate__(plain)

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()


def reconstruct(*_: Any) -> SafeArray:
    """Stand in for ``numpy._core.multiarray._reconstruct``."""
    return SafeArray((0,), np.uint8)


def scalar(dtype: Any, content: Any) -> np.generic:
    """Stand in for ``numpy._core.multiarray.scalar``."""
    if not isinstance(dtype, SafeDType) or not isinstance(content, bytes):
        raise ValueError('a number without a type or content')
    if len(content) != dtype.dtype.itemsize:
        raise ValueError(f'a number of type {dtype.dtype} has {len(content)} bytes')
    return np.frombuffer(content, dtype.dtype)[0]
