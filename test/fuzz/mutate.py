# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Generic, seeded damage to files: bits, bytes, blocks, numbers in text, values in JSON."""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

#: Numbers that often cause errors in readers, as text.
NUMBERS = (
    b'0', b'-1', b'1', b'nan', b'inf', b'-inf', b'1e999', b'1e38', b'-0', b'0x10', b'1_0', b'',
    b'2147483647', b'2147483648', b'4294967296', b'9223372036854775808', b'1' * 400, b'1.5', b'x',
)  # fmt: skip
BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFF, 0x0A, 0x20, 0x2F, 0x2E)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, 1 << 70, float('nan'), float('inf'), '', 'x', '../x',
    '/x', 'a\0b', '\ud800', [], {}, [[]], [None], {'id': None}, [0] * 5, 'é' * 300,
)  # fmt: skip
_NUMBER = re.compile(rb'-?\d+(\.\d+)?')


def mutate_bytes(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Damage bytes in one to six ways."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice(_DAMAGE)(out, others, rng)
    return bytes(out)


def _flip(out: bytearray, _: list[bytes], rng: random.Random) -> None:
    if out:
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _set(out: bytearray, _: list[bytes], rng: random.Random) -> None:
    if out:
        out[rng.randrange(len(out))] = rng.choice(BYTES)


def _integer(out: bytearray, _: list[bytes], rng: random.Random) -> None:
    """Overwrite two, four or eight bytes with an integer at an edge of its range."""
    size = rng.choice((2, 4, 8))
    value = rng.choice((0, 1, (1 << 8 * size - 1) - 1, 1 << 8 * size - 1, (1 << 8 * size) - 1))
    at = rng.randrange(len(out) + 1)
    out[at : at + size] = value.to_bytes(size, rng.choice(('little', 'big')))


def _cut(out: bytearray, _: list[bytes], rng: random.Random) -> None:
    del out[rng.randrange(len(out) + 1) :]


def _remove(out: bytearray, _: list[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(out) + 1)
    del out[at : at + rng.choice((1, 4, 64))]


def _repeat(out: bytearray, _: list[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(out) + 1)
    out[at:at] = out[at : at + rng.choice((1, 8, 100))] * rng.choice((1, 1, 20))


def _insert(out: bytearray, _: list[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(out) + 1)
    out[at:at] = rng.randbytes(rng.choice((1, 4, 30)))


def _splice(out: bytearray, others: list[bytes], rng: random.Random) -> None:
    other = rng.choice(others)
    begin = rng.randrange(len(other) + 1)
    at = rng.randrange(len(out) + 1)
    out[at:at] = other[begin : begin + rng.choice((10, 100))]


def _number(out: bytearray, _: list[bytes], rng: random.Random) -> None:
    """Replace a number written as text."""
    places = list(_NUMBER.finditer(out))
    if places:
        place = rng.choice(places)
        out[place.start() : place.end()] = rng.choice(NUMBERS)


_DAMAGE: tuple[Callable[[bytearray, list[bytes], random.Random], None], ...] = (
    _flip, _flip, _set, _integer, _cut, _remove, _repeat, _insert, _splice, _number, _number,
)  # fmt: skip


def mutate_json(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Replace, remove or duplicate JSON values; in a third of the cases damage the bytes."""
    if rng.random() < 0.33:
        return mutate_bytes(data, others, rng)
    table = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(table))
        if not places:
            break
        holder, key = rng.choice(places)
        act = rng.random()
        if act < 0.7:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        elif act < 0.9:
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[rng.choice(('x', 'id', 'size'))] = copy.deepcopy(holder[key])
    return json.dumps(table).encode()


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _places(inner)


def mutate_zip(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Damage one member and update its checksum; in half of the cases damage the archive."""
    if rng.random() < 0.5:
        return mutate_bytes(data, others, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
        kind = archive.infolist()[0].compress_type
    # Small members, such as the structure, more often than by their number of bytes.
    name = rng.choice(list(members))
    members[name] = mutate_bytes(members[name], list(members.values()), rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def mutate_gzip(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Damage the content of a compressed file; in a third of the cases the file itself."""
    if rng.random() < 0.33 or data[:2] != b'\x1f\x8b':
        return mutate_bytes(data, others, rng)
    return gzip.compress(mutate_bytes(gzip.decompress(data), others, rng), 1, mtime=0)
