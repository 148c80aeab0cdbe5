# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read a pickle of plain values and tensors as numpy arrays, without torch, running no code.

A pickle is a program that may call anything it can name. Here it can name only the few functions
of this module and of :mod:`mmface.utils.safe_numpy`. mmdet's ``DumpDetResults`` writes such files.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.utils.safe_numpy import SafeDType, reconstruct, scalar

_STORAGES = {
    'DoubleStorage': np.float64,
    'FloatStorage': np.float32,
    'HalfStorage': np.float16,
    'LongStorage': np.int64,
    'IntStorage': np.int32,
    'ShortStorage': np.int16,
    'CharStorage': np.int8,
    'ByteStorage': np.uint8,
    'BoolStorage': np.bool_,
}
_BROKEN = (
    pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError,
    OverflowError, MemoryError, RecursionError, ImportError,
)  # fmt: skip


def read_pickled_tensors(path: Path) -> Any:
    """Read a pickle of numbers, texts, lists, dicts, tensors and arrays.

    Returns:
        The object, with numpy arrays in place of tensors.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is no pickle, is damaged, or holds other objects.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist; expected a pickle')
    try:
        with path.open('rb') as file:
            return _Unpickler(file).load()
    except _BROKEN as error:
        raise ValueError(f'{path}: expected a pickle of tensors and plain values ({error})') from (
            error
        )


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ('collections', 'OrderedDict'):
            return OrderedDict
        replacement = _REPLACEMENTS.get((module.replace('numpy._core', 'numpy.core'), name))
        if replacement is None:
            raise pickle.UnpicklingError(f'it names {module}.{name}, which is not loaded')
        # A pickle can set attributes of the objects it gets. Those of a lambda are lost afterwards.
        return lambda *arguments: replacement(*arguments)


class _StorageUnpickler(pickle.Unpickler):
    """Reads the parts of a storage that torch wrote in its format before 1.6."""

    def find_class(self, module: str, name: str) -> Any:
        if module == 'torch' and name in _STORAGES:
            return np.dtype(_STORAGES[name])
        raise pickle.UnpicklingError(f'it names {module}.{name}, which is not loaded')

    def persistent_load(self, saved: Any) -> Any:
        kind, dtype, key, _, count, *_ = saved
        if kind != 'storage' or not isinstance(dtype, np.dtype) or not isinstance(count, int):
            raise pickle.UnpicklingError('its storage is not known')
        return dtype, key, count


def _bytes(text: str, encoding: str) -> bytes:
    """Stand in for ``_codecs.encode``, with which protocol 2 builds bytes."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'bytes in {encoding!r}')
    return text.encode('latin1')


def _storage(content: bytes) -> NDArray:
    file = io.BytesIO(content)
    for _ in range(3):  # magic number, version, byte order and sizes of the machine
        _StorageUnpickler(file).load()
    dtype, key, count = _StorageUnpickler(file).load()
    keys = _StorageUnpickler(file).load()
    stored = int.from_bytes(file.read(8), 'little')
    if keys != [key] or stored != count:
        raise pickle.UnpicklingError(f'its storage has {stored} values, {count} announced')
    return np.frombuffer(file.read(), dtype, count)


def _tensor(
    storage: NDArray, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> NDArray:
    """Build a tensor from its storage; checked, because numpy would read beyond its end."""
    if not isinstance(storage, np.ndarray) or storage.ndim != 1 or len(size) != len(stride):
        raise pickle.UnpicklingError('a tensor without a storage')
    numbers = [offset, *size, *stride]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise pickle.UnpicklingError(f'a tensor of shape {size}')
    if not math.prod(size):
        return np.empty(tuple(size), storage.dtype)
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if last >= len(storage):
        raise pickle.UnpicklingError(f'a tensor of shape {size} in {len(storage)} values')
    strides = [step * storage.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(storage[offset:], tuple(size), strides, writeable=False)
    if view.size > len(storage):
        raise pickle.UnpicklingError(f'a tensor of shape {size} in {len(storage)} values')
    return view.copy()


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> NDArray:
    """Stand in for numpy's ``_frombuffer``, with which protocol 5 builds arrays."""
    array = reconstruct()
    array.__setstate__((1, shape, dtype, order == 'F', bytes(buffer)))
    return array


_REPLACEMENTS: dict[tuple[str, str], Callable[..., Any]] = {
    ('torch._utils', '_rebuild_tensor_v2'): _tensor,
    ('torch.storage', '_load_from_bytes'): _storage,
    ('_codecs', 'encode'): _bytes,
    ('numpy', 'dtype'): SafeDType,
    ('numpy', 'ndarray'): reconstruct,
    ('numpy.core.multiarray', '_reconstruct'): reconstruct,
    ('numpy.core.multiarray', 'scalar'): scalar,
    ('numpy.core.numeric', '_frombuffer'): _from_buffer,
}
