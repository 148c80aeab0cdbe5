# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tables and curves of a sweep over checkpoints."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import cv2
import pytest

from mmface.evaluation.sweep_result import (
    Checkpoint,
    best_of,
    draw_curves,
    format_rows,
    read_ap,
    write_table,
)

NAN = float('nan')


def swept(numbers):
    """Return checkpoints with hard APs; None is a checkpoint whose test failed."""
    items = []
    for number, value in numbers.items():
        ap = {} if value is None else dict(easy=0.9 - value / 9, medium=NAN, hard=value)
        note = 'exit status 2: error: broken' if value is None else ''
        path = Path(f'epoch_{number}.pth')
        items.append(Checkpoint(path, number, Path(path.stem), ap, note))
    return items


def test_best__first_of_equals_and_never_nan():
    items = swept({1: 0.2, 2: 0.7, 3: None, 4: 0.7, 5: NAN})
    assert best_of(items, 'hard').number == 2
    assert best_of(items, 'easy').number == 1
    assert best_of(items, 'medium') is None
    assert best_of(items[2:3], 'hard') is None


def test_table__text_and_csv(tmp_path):
    items = swept({8: 0.2, 10: None, 12: 0.7})
    lines = format_rows(items, items[2]).splitlines()
    assert lines[0].split() == ['easy', 'medium', 'hard']
    assert lines[1].split() == ['epoch_8', '0.8778', 'nan', '0.2000']
    assert lines[2].split(maxsplit=1) == ['epoch_10', 'exit status 2: error: broken']
    assert lines[3].endswith('0.7000  best')
    write_table(tmp_path / 'sweep.csv', items)
    rows = list(csv.DictReader((tmp_path / 'sweep.csv').open()))
    assert [row['hard'] for row in rows] == ['0.200000', '', '0.700000']
    assert rows[1]['note'] == 'exit status 2: error: broken'


def test_read_ap__all_subsets():
    assert read_ap(dict(ap=dict(easy=1, medium=0, hard=0.5))) == dict(easy=1, medium=0, hard=0.5)
    with pytest.raises(KeyError):
        read_ap(dict(ap=dict(easy=1)))


@pytest.mark.parametrize('numbers', [{3: 0.5}, {1: 0.2, 2: None, 30: 0.7}])
def test_curves__are_drawn_in_their_colours(tmp_path, numbers):
    items = swept(numbers)
    draw_curves(tmp_path / 'a.png', items, best_of(items, 'hard'), 'epoch', 'run')
    image = cv2.imread(str(tmp_path / 'a.png'))
    for colour in ('#0072B2', '#009E73'):  # medium is NaN here
        wanted = [int(part, 16) for part in re.findall('..', colour[1:])][::-1]
        assert (image == wanted).all(-1).sum() > 20
