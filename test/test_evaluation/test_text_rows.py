# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from mmface.evaluation import text_rows
from mmface.evaluation.text_rows import parse_bodies, parse_carefully

ROW = b'1 2 30 40 0.5\n'


def numbers(seed: int) -> list[str]:
    """Draw finite numbers in every spelling that printf and repr give."""
    rng = random.Random(seed)
    found = []
    while len(found) < 5000:
        value = struct.unpack('d', struct.pack('Q', rng.getrandbits(64)))[0]
        place = rng.uniform(-2000, 2000)
        for text in (
            repr(value), repr(place), f'{place:.{rng.randrange(1, 25)}f}',
            f'{place * 10.0 ** rng.randrange(-300, 300):.{rng.randrange(1, 30)}e}',
            str(rng.randrange(10 ** rng.randrange(1, 30))),
        ):  # fmt: skip
            found += [text] if np.isfinite(float(text)) else []
    return found[:5000]


@pytest.fixture(params=['arrow', 'numpy'])
def parser(request, monkeypatch):
    """Use one of the two parsers whatever the size of the text is."""
    if request.param == 'arrow':
        pytest.importorskip('pyarrow')
    monkeypatch.setattr(text_rows, '_have_arrow', lambda: request.param == 'arrow')
    monkeypatch.setattr(text_rows, '_WORTH_ARROW', 0)


@pytest.mark.parametrize('separator', [' ', '\t', ',', ', '])
@pytest.mark.parametrize('end', ['\n', ' \n', '\r\n'])
def test_parse_bodies__doubles_equal_pythons_to_the_last_bit(parser, separator, end):
    cells = numbers(seed=3 * len(separator) + len(end))
    lines = [separator.join(cells[i : i + 5]) + end for i in range(0, len(cells), 5)]
    body = ''.join(lines).encode()
    table = parse_bodies([body, b'', ROW])
    expected = np.array([*map(float, cells)]).reshape(-1, 5)
    if table is None:  # refusing is allowed, another number is not
        table = np.concatenate([parse_carefully('', body), parse_carefully('', ROW)])
    assert table[:-1].tobytes() == expected.tobytes()
    assert table[-1].tolist() == [1, 2, 30, 40, 0.5]


@pytest.mark.parametrize(
    'line',
    [
        b'1 2 3 4', b'', b'1 2 3 4 nan', b'1 2 3 4 inf', b'1 2 3 4 1e999', b'1 2 x 4 5',
        b'1 2 3 4 5\r6 7 8 9 10', b'1 2 3 4 0x1p3', b'1_0 2 3 4 5', b'"1" 2 3 4 5',
        b'1 2 3 4 1d5', b'1 2 3 4 5\0', b'1 2 3 4 true', '1 2 3 4 \u0663'.encode(), b'\xff 2 3 4 5',
    ],
)  # fmt: skip
def test_parse_bodies__doubtful_text_is_left_to_the_careful_parser(parser, line):
    assert parse_bodies([ROW, ROW + line + b'\n' + ROW]) is None


@pytest.mark.parametrize('line', [b'  1 2  30 40 0.5 ', b'1 2 30 40 0.5 7', b'1\t2 30 40 .5'])
def test_parse_bodies__uneven_rows_are_read_as_by_the_careful_parser(parser, line):
    body = ROW + line + b'\n' + ROW
    table = parse_bodies([body])
    assert table is None or table.tolist() == parse_carefully('', body).tolist()


def test_parse_bodies__no_rows(parser):
    assert parse_bodies([b'', b'']).shape == (0, 5)
