# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read detectron2's .pkl files, pickles of numpy arrays, without running code in them.

A pickle is a program that may call anything it can name. Here it can name only a few functions,
all of them replacements from this module. With numpy's own functions, a forged file could build
arrays that point anywhere in memory.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from torch import Tensor

from mmface.utils.checkpoint import SHOWN_KEYS
from mmface.utils.files import whole_file

# First bytes of files written by torch.save before version 1.6, which are pickles too.
_TORCH_MAGIC = b'\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.'
_MODULES = ('numpy.core.multiarray', 'numpy._core.multiarray')
_NUMERIC = ('numpy.core.numeric', 'numpy._core.numeric')
# Boolean, signed, unsigned and floating-point numbers.
_KINDS = 'biuf'


class PickledWeights(NamedTuple):
    """Content of a .pkl file.

    Attributes:
        arrays: Arrays by name, in the byte order of this machine.
        author: Who wrote it, in detectron2's own layout; ``None`` for a plain mapping of Caffe2's
            names to arrays.
    """

    arrays: dict[str, np.ndarray]
    author: str | None


def is_pickle(path: Path) -> bool:
    """Return whether a file is a pickle but not from torch.save, by its beginning and name."""
    with path.open('rb') as file:
        start = file.read(2 + len(_TORCH_MAGIC))
    if start[:1] == b'\x80':
        return start[2:] != _TORCH_MAGIC
    # Pickles of Python 2 may begin with any byte.
    return path.suffix.lower() == '.pkl' and start[:4] != b'PK\x03\x04'


def write_detectron2_pickle(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a .pkl file that detectron2 loads by its names, whole or not at all.

    Args:
        path: The file. detectron2 chooses its reader by the suffix ``.pkl``.
        tensors: Tensors by detectron2's names.
    """
    arrays = {key: value.detach().cpu().numpy() for key, value in tensors.items()}
    with whole_file(path) as tmp:
        tmp.write_bytes(pickle.dumps(dict(model=arrays, __author__='mmface')))


def read_detectron2_pickle(path: str | Path) -> PickledWeights:
    """Read a .pkl file of detectron2 or Detectron.

    Both layouts that detectron2 reads are supported (``detection_checkpoint.py``): a mapping with
    ``model`` and ``__author__``, and Detectron's plain mapping of Caffe2's blob names, possibly
    under ``blobs``. Momenta in the latter are skipped.

    Args:
        path: The file, a pickle of any protocol, also of Python 2 (read as latin1).

    Returns:
        The arrays.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file contains anything besides arrays of numbers, containers, text and
            numbers, or is damaged. No code in it runs.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no such file: {path}')
    try:
        with path.open('rb') as file:
            _check_memo(file)
            file.seek(0)
            content = _Unpickler(file, encoding='latin1').load()
    except _Refused as error:
        raise ValueError(
            f'{path} contains {error} and was not loaded: a .pkl file may contain only numpy '
            'arrays of numbers, containers, text and numbers'
        ) from error
    except Exception as error:  # a damaged file can raise any exception
        raise ValueError(
            f'{path} is not a pickle, or it is damaged (download or copy it again): '
            f'{str(error) or type(error).__name__}'
        ) from error
    author = None
    if isinstance(content, Mapping):
        if 'model' in content and isinstance(content.get('__author__'), str):
            author, content = content['__author__'], content['model']
        else:
            content = content.get('blobs', content)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f'{path} contains no weights: expected a mapping of names to arrays, possibly under '
            f'"model" or "blobs", found {type(content).__name__}'
        )
    arrays, alien = {}, []
    for key, value in content.items():
        name = key if isinstance(key, str) else type(key).__name__
        if name is key and isinstance(value, _Array) and value.value is not None:
            arrays[name] = value.value
        else:
            alien.append(name)
    if alien:
        raise ValueError(
            f'{path} contains no weights: {len(alien)} of {len(content)} entries are not arrays '
            f'({", ".join(alien[:SHOWN_KEYS])})'
        )
    arrays = {key: value for key, value in arrays.items() if not key.endswith('_momentum')}
    return PickledWeights(arrays, author)


def _check_memo(file: IO[bytes]) -> None:
    """Reject numbers of remembered objects beyond what a pickle can have remembered.

    Python allocates memory for all numbers up to the largest: 100 bytes can request gigabytes.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT') and int(argument or 0) > count:
            raise ValueError(f'object {argument} is remembered by operation {count}')


class _Refused(pickle.UnpicklingError):
    """The pickle contains something that is not allowed; the message names it."""


class _Array:
    """Replacement for an array while its pickle is read."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, fortran, content = state[-4:]  # the first of five is a version
        if not isinstance(dtype, _DType):
            raise _Refused('an array without a type')
        # Python 2 stores the bytes as a string.
        raw = content.encode('latin1') if isinstance(content, str) else content
        self.value = _numbers(raw, dtype, shape, fortran)


class _DType:
    """Replacement for the dtype of an array; only dtypes of numbers are allowed."""

    def __init__(self, spec: Any, *_: Any) -> None:
        dtype = np.dtype(spec) if isinstance(spec, str) else None
        if dtype is None or dtype.kind not in _KINDS:
            raise _Refused(f'an array of {spec!r}, not of numbers')
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        # Version and byte order; later items concern structures.
        self.dtype = self.dtype.newbyteorder(state[1])


class _Unpickler(pickle.Unpickler):
    """Unpickler that can name only the replacements."""

    def find_class(self, module: str, name: str) -> Callable:
        """Return the replacement for a name.

        Raises:
            _Refused: There is none.
        """
        if module in _MODULES and name == '_reconstruct':
            return lambda *_: _Array()
        # A pickle can set attributes of the objects it gets. Those of a lambda are lost afterwards.
        if module in _NUMERIC and name == '_frombuffer':  # protocol 5
            return lambda *arguments: _from_buffer(*arguments)
        if (module, name) == ('numpy', 'ndarray'):
            return _Array
        if (module, name) == ('numpy', 'dtype'):
            return _DType
        if (module, name) == ('_codecs', 'encode'):  # bytes in protocols 0 to 2
            return lambda *arguments: _latin1(*arguments)
        if module in ('builtins', '__builtin__') and name == 'bytes':  # used for empty bytes only
            return lambda: b''
        raise _Refused(f'a Python object ({module}.{name}) that could run code')


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((shape, dtype, order == 'F', bytes(buffer)))
    return array


def _latin1(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != 'latin1':
        raise _Refused(f'text in the encoding {encoding!r}')
    return text.encode('latin1')


def _numbers(raw: bytes, dtype: _DType, shape: tuple[int, ...], fortran: Any) -> np.ndarray:
    """Build an array from its bytes."""
    # Computed in Python integers: an overflowing product of sizes would look like a small one.
    expected = math.prod(shape) * dtype.dtype.itemsize
    if any(size < 0 for size in shape) or expected != len(raw):
        raise ValueError(f'an array of shape {shape} and type {dtype.dtype} has {len(raw)} bytes')
    array = np.frombuffer(raw, dtype.dtype).reshape(shape, order='F' if fortran else 'C')
    return array.astype(dtype.dtype.newbyteorder('='), order='C')
