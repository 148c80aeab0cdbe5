# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read detectron2's .pkl files: pickles of numpy arrays, without running code that may be in them.

A pickle is a program that may call anything it can name. Here it can name a few functions, all of
them stand-ins from this module: numpy's own would let a forged file build arrays that point
anywhere in memory.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from mmface.utils.checkpoint import SHOWN_KEYS

# How files written by torch.save before version 1.6 begin; they are pickles too.
_TORCH_MAGIC = b'\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.'
_MODULES = ('numpy.core.multiarray', 'numpy._core.multiarray')
_NUMERIC = ('numpy.core.numeric', 'numpy._core.numeric')
# Boolean, signed, unsigned and floating point numbers.
_KINDS = 'biuf'


class PickledWeights(NamedTuple):
    """Content of a .pkl file.

    Attributes:
        arrays: Arrays by name, in the byte order of this machine.
        author: Who wrote it, in detectron2's own layout; ``None`` for a plain mapping of
            Caffe2's names to arrays.
    """

    arrays: dict[str, np.ndarray]
    author: str | None


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle but none written by torch.save, as its beginning and name tell."""
    with path.open('rb') as file:
        start = file.read(2 + len(_TORCH_MAGIC))
    if start[:1] == b'\x80':
        return start[2:] != _TORCH_MAGIC
    # Pickles of Python 2 may begin with anything.
    return path.suffix.lower() == '.pkl' and start[:4] != b'PK\x03\x04'


def read_detectron2_pickle(path: str | Path) -> PickledWeights:
    """Read a .pkl file of detectron2 or Detectron.

    Both layouts that detectron2 reads are known (``detection_checkpoint.py``): a mapping with
    ``model`` and ``__author__``, and Detectron's plain mapping of Caffe2's blob names, possibly
    under ``blobs``. Momenta of the latter are left out.

    Args:
        path: The file, a pickle of any protocol, also of Python 2 (read as latin1).

    Returns:
        The arrays.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything besides arrays of numbers, containers, text and numbers,
            or is damaged. No code in it runs.
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
            f'{path} holds {error} and was not loaded: a .pkl file may hold numpy arrays of '
            'numbers, containers, text and numbers only'
        ) from error
    except Exception as error:  # whatever the bytes of a damaged file make of it
        raise ValueError(
            f'{path} is no pickle, or a damaged one (download or copy it again): '
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
            f'{path} holds no weights: expected a mapping of names to arrays, possibly under '
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
            f'{path} holds no weights: {len(alien)} of {len(content)} entries are no arrays '
            f'({", ".join(alien[:SHOWN_KEYS])})'
        )
    arrays = {key: value for key, value in arrays.items() if not key.endswith('_momentum')}
    return PickledWeights(arrays, author)


def _check_memo(file: IO[bytes]) -> None:
    """Refuse numbers of remembered objects beyond what a pickle can have remembered.

    Python makes room for all numbers up to the largest: 100 bytes can ask for gigabytes.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT') and int(argument or 0) > count:
            raise ValueError(f'object {argument} is remembered by operation {count}')


class _Refused(pickle.UnpicklingError):
    """The file is a pickle, of something that is not allowed; the message says of what."""


class _Array:
    """Stands in for an array while its pickle is read."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, fortran, content = state[-4:]  # the first of five is a version
        if not isinstance(dtype, _DType):
            raise _Refused('an array without a type')
        # A string of Python 2.
        raw = content.encode('latin1') if isinstance(content, str) else content
        self.value = _numbers(raw, dtype, shape, fortran)


class _DType:
    """Stands in for the type of an array's elements; only numbers have one."""

    def __init__(self, spec: Any, *_: Any) -> None:
        dtype = np.dtype(spec) if isinstance(spec, str) else None
        if dtype is None or dtype.kind not in _KINDS:
            raise _Refused(f'an array of {spec!r}, not of numbers')
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        # Version and byte order; what may follow concerns structures.
        self.dtype = self.dtype.newbyteorder(state[1])


class _Unpickler(pickle.Unpickler):
    """Unpickler to which only the stand-ins have names."""

    def find_class(self, module: str, name: str) -> Callable:
        """Give the stand-in for a name.

        Raises:
            _Refused: If there is none.
        """
        if module in _MODULES and name == '_reconstruct':
            return lambda *_: _Array()
        # A pickle can set attributes of what it is given; those of a lambda are gone afterwards.
        if module in _NUMERIC and name == '_frombuffer':  # protocol 5
            return lambda *arguments: _from_buffer(*arguments)
        if (module, name) == ('numpy', 'ndarray'):
            return _Array
        if (module, name) == ('numpy', 'dtype'):
            return _DType
        if (module, name) == ('_codecs', 'encode'):  # bytes in protocols 0 to 2
            return lambda *arguments: _latin1(*arguments)
        if module in ('builtins', '__builtin__') and name == 'bytes':  # no bytes in these
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
    """Make an array of the bytes of one."""
    # Counted by Python: a product of sizes that overflows would pass for a small one.
    expected = math.prod(shape) * dtype.dtype.itemsize
    if any(size < 0 for size in shape) or expected != len(raw):
        raise ValueError(f'an array of shape {shape} and type {dtype.dtype} has {len(raw)} bytes')
    array = np.frombuffer(raw, dtype.dtype).reshape(shape, order='F' if fortran else 'C')
    return array.astype(dtype.dtype.newbyteorder('='), order='C')
