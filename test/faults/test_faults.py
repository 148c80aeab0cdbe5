# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The quick faults."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location('faults_run', Path(__file__).with_name('run.py'))
_run = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_run)


@pytest.mark.parametrize(
    'case', [pytest.param(case, id=name) for name, case in _run.collect(quick=True)]
)
def test_survived(case):
    outcome = _run.run_case(case)
    assert outcome.survived == case.tries, outcome.message
    assert outcome.message


def test_run__counts_a_failure():
    """Check that no try of a case that raises survives, and that its row shows the reason."""

    def fail(folder):
        raise ValueError('a | b')

    case = _run.Case('broken', 2, fail)
    outcome = _run.run_case(case)
    assert _run.row('broken', case, outcome) == '| broken | 2 | 0 | ValueError: a \\| b |\n'
