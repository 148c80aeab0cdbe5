# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest

from mmface.evaluation.bootstrap import Interval
from mmface.evaluation.paper import FORMS, paper_table, write_curves
from mmface.evaluation.thresholds import operate
from mmface.evaluation.wider_ap import match_rows
from mmface.evaluation.wider_gt import SUBSETS

NAN = float('nan')
APS = {
    'a_1|50%': {
        'easy': Interval(0.123456, 0.1, 0.15),
        'medium': Interval(1, 1, 1),
        'hard': Interval(0.99995, 0.5, 1),
    },
    'b': {s: Interval(NAN, NAN, NAN) for s in SUBSETS},
}


def test_paper_table__all_forms_have_the_same_numbers():
    numbers = {form: re.findall(r'\d\.\d{4}', paper_table(APS, form)) for form in FORMS}
    expected = ['0.1235', '0.1000', '0.1500', *['1.0000'] * 4, '0.5000', '1.0000']
    assert numbers == dict.fromkeys(FORMS, expected)


def test_paper_table__names_are_escaped():
    assert r'a\_1|50\% & ' in paper_table(APS, 'latex')
    assert r'| a_1\|50% | ' in paper_table(APS, 'markdown')
    rows = list(csv.reader(io.StringIO(paper_table(APS, 'csv'))))
    assert [row[0] for row in rows] == ['detector', *APS]
    assert {len(row) for row in rows} == {10}
    assert rows[2][1:] == [''] * 9
    with pytest.raises(ValueError, match='expected one of markdown, latex, csv'):
        paper_table(APS, 'html')


@pytest.fixture(scope='module')
def operations(drawn_gt, drawn_rows):
    matched = match_rows(drawn_gt, drawn_rows)
    return {'x': {s: operate(matched, drawn_gt.keep[s]) for s in SUBSETS}}


def test_write_curves__csv_equals_json(operations, tmp_path):
    write_curves(tmp_path / 'a.json', operations)
    write_curves(tmp_path / 'a.csv', operations)
    content = json.loads((tmp_path / 'a.json').read_text())
    rows = list(csv.DictReader((tmp_path / 'a.csv').open()))
    assert len(rows) == 3 * 1000
    for number, row in enumerate(rows):
        curve = content['x'][row['subset']]
        for name, values in curve.items():
            value = values[number % 1000]
            assert row[name] == ('' if value is None else str(value))
    hard = operations['x']['hard']
    np.testing.assert_allclose(content['x']['hard']['recall'], hard.recall, atol=1e-6)
    with pytest.raises(ValueError, match=r'ends with \.json or \.csv'):
        write_curves(tmp_path / 'a.txt', operations)
