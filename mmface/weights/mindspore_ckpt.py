# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read and write MindSpore checkpoints without MindSpore.

The file is a protobuf message with this schema (proto2, field numbers after the names)::

    Checkpoint  { repeated Value value = 1; }
    Value       { string tag = 1; TensorProto tensor = 2 or MapTensorProto maptensor = 3; }
    TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3; }

A tensor of more than 512 MiB is stored as several consecutive values. They have the same tag and
the full dims, and each contains a part of the content. With ``crc_check=True`` MindSpore appends
the seven letters ``crc_num`` and the CRC-32 of everything before them as ten bytes, big-endian.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

#: Protobuf rejects messages of this size or more, and so do most versions of MindSpore.
MAX_BYTES = 2**31
#: Maximum content of one value, as in MindSpore. It is a multiple of every element size.
SLICE_BYTES = 512 * 2**20

_TYPES = {
    **{f'{kind}{bits}': np.dtype(f'<{kind[0].lower()}{bits // 8}')
       for kind in ('Int', 'UInt') for bits in (8, 16, 32, 64)},
    **{f'Float{bits}': np.dtype(f'<f{bits // 8}') for bits in (16, 32, 64)},
    'Bool': np.dtype(np.bool_),
    'BFloat16': np.dtype('<u2'),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _TYPES.items() if name != 'BFloat16'}
_MAX_DIMS = 16
_MAX_TAG = 4096
_CRC_MARK = b'crc_num'
_CRC_BYTES = 10


class _Damaged(ValueError):
    """The bytes are not a checkpoint; the message says where they become invalid."""


class _Value(NamedTuple):
    """One stored value: a tensor, or a part of one."""

    tag: str
    dims: tuple[int, ...]
    type_name: str
    content: memoryview


def read_mindspore_ckpt(path: str | Path) -> dict[str, np.ndarray | str]:
    """Read a MindSpore checkpoint.

    The content is only numbers and names: nothing in the file can run code.

    Args:
        path: A ``.ckpt`` file written by ``mindspore.save_checkpoint``, not encrypted.

    Returns:
        Tensors by name in the order of the file, as MindSpore's own loader returns them
        (``bfloat16`` as float32, which has the same values). Plain strings, which MindSpore stores
        beside the weights, are returned as ``str``.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a checkpoint, is incomplete, damaged or encrypted, or contains
            something that is not a plain tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no such file: {path}')
    size = path.stat().st_size
    if size >= MAX_BYTES:
        raise ValueError(
            f'{path} has {size} bytes; a MindSpore checkpoint of one message has less than '
            f'{MAX_BYTES} bytes'
        )
    tensors: dict[str, np.ndarray | str] = {}
    parts: list[memoryview] = []
    try:
        values = list(_values(_checked(memoryview(path.read_bytes()))))
        if not values:
            raise _Damaged('it is empty')
        for value, following in zip(values, [*values[1:], None], strict=True):
            parts.append(value.content)
            if following is not None and following.tag == value.tag:
                if following[:3] != value[:3]:
                    raise _Damaged(f'parts of {value.tag!r} differ in shape or type')
                continue
            if value.tag in tensors:
                raise _Damaged(f'{value.tag!r} occurs twice')
            tensors[value.tag] = _decode(value, parts)
            parts = []
    except _Damaged as error:
        raise ValueError(
            f'{path} is not a MindSpore checkpoint, or it is encrypted, damaged or incomplete '
            f'(download or copy it again): {error}'
        ) from error
    return tensors


def write_mindspore_ckpt(
    path: str | Path, tensors: Mapping[str, np.ndarray], slice_bytes: int = SLICE_BYTES
) -> None:
    """Write a checkpoint that ``mindspore.load_checkpoint`` reads.

    Args:
        path: The file to write.
        tensors: Tensors by name: integers, floats of 16, 32 or 64 bits, or booleans.
        slice_bytes: Maximum content of one value, a multiple of 8.

    Raises:
        ValueError: A tensor has another type.
    """
    with Path(path).open('wb') as file:
        for tag, tensor in tensors.items():
            dtype = np.asarray(tensor).dtype.newbyteorder('<')
            if dtype not in _NAMES:
                raise ValueError(f'MindSpore checkpoints cannot hold {tag!r} of type {dtype}')
            content = np.asarray(tensor, dtype).tobytes()
            head = b''.join(b'\x08' + _varint(side) for side in np.shape(tensor))
            head += _bytes_field(2, _NAMES[dtype].encode())
            for start in range(0, max(len(content), 1), slice_bytes):
                proto = head + _bytes_field(3, content[start : start + slice_bytes])
                value = _bytes_field(1, tag.encode()) + _bytes_field(2, proto)
                file.write(_bytes_field(1, value))


def _checked(data: memoryview) -> memoryview:
    """Remove the checksum from the end, if there is one, and check it."""
    end = len(data) - len(_CRC_MARK) - _CRC_BYTES
    if end < 0 or data[end : end + len(_CRC_MARK)] != _CRC_MARK:
        return data
    if zlib.crc32(data[:end]) != int.from_bytes(data[-_CRC_BYTES:], 'big'):
        raise _Damaged('the checksum at its end is wrong')
    return data[:end]


def _values(data: memoryview) -> Iterator[_Value]:
    """Yield the values of a ``Checkpoint`` message."""
    for _, payload in _fields(data, {1: 'value'}):
        tag, tensor = None, None
        for number, inner in _fields(payload, {1: 'tag', 2: 'tensor', 3: 'maptensor'}):
            if number == 1:
                tag = _text(inner)
            elif number == 2:
                tensor = inner
            else:
                raise _Damaged(f'{tag!r} is a map of an embedding, which is not supported')
        if tag is None or tensor is None:
            raise _Damaged('a value has no name or no tensor')
        dims: list[int] = []
        type_name, content = None, None
        for number, inner in _fields(tensor, {2: 'tensor_type', 3: 'tensor_content'}, dims):
            if number == 2:
                type_name = _text(inner)
            else:
                content = inner
        if type_name is None or content is None:
            raise _Damaged(f'{tag!r} has no type or no content')
        yield _Value(tag, tuple(dims), type_name, content)


def _fields(
    data: memoryview, names: Mapping[int, str], integers: list[int] | None = None
) -> Iterator[tuple[int, memoryview]]:
    """Yield the byte fields of a message.

    Args:
        data: The message.
        names: The byte fields it may have, by number. Any other field is an error: a checkpoint
            has none, but damaged or foreign files do.
        integers: List to which the values of the repeated integer field 1 are appended, if the
            message has it.
    """
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == 0 and number == 1 and integers is not None:
            integer, place = _read_varint(data, place)
            integers.append(integer)
            if len(integers) > _MAX_DIMS:
                raise _Damaged(f'a tensor has more than {_MAX_DIMS} dimensions')
            continue
        if kind != 2 or number not in names:
            raise _Damaged(f'unknown field {number} of kind {kind}')
        length, place = _read_varint(data, place)
        if length > len(data) - place:
            raise _Damaged(
                f'a {names[number]} of {length} bytes begins where only {len(data) - place} remain'
            )
        yield number, data[place : place + length]
        place += length


def _read_varint(data: memoryview, place: int) -> tuple[int, int]:
    """Read an integer of at most 64 bits; return it and the offset after it."""
    result = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise _Damaged('it ends within a number')
        byte = data[place]
        place += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, place
    raise _Damaged('a number has more than 64 bits')


def _text(data: memoryview) -> str:
    """Read a name."""
    if len(data) > _MAX_TAG:
        raise _Damaged(f'a name has {len(data)} bytes')
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as error:
        raise _Damaged('a name is not UTF-8') from error


def _decode(value: _Value, parts: list[memoryview]) -> np.ndarray | str:
    """Combine the parts of a tensor."""
    tag, dims, type_name, _ = value
    content = parts[0] if len(parts) == 1 else memoryview(b''.join(parts))
    if type_name == 'str':
        try:
            return bytes(content).decode('utf-32-le').rstrip('\0')
        except UnicodeDecodeError as error:
            raise _Damaged(f'{tag!r} is not text') from error
    if type_name not in _TYPES:
        raise _Damaged(f'{tag!r} is of type {type_name!r}, which is not supported')
    dtype = _TYPES[type_name]
    # Early versions of MindSpore write a scalar with shape [0].
    if dims == (0,) and len(content) == dtype.itemsize:
        dims = ()
    # Computed in Python integers: an overflowing product of dims would look like a small one.
    if math.prod(dims) * dtype.itemsize != len(content):
        raise _Damaged(f'{tag!r} of shape {dims} and type {type_name} has {len(content)} bytes')
    array = np.frombuffer(content, dtype).reshape(dims)
    if type_name == 'BFloat16':
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.copy()


def _bytes_field(number: int, payload: bytes) -> bytes:
    """Write one field of bytes."""
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    """Write one integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
