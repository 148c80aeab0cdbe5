# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run all faults and write the results as a table."""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent), str(HERE.parent.parent / 'tools/benchmark')]

from case import Case, Outcome  # noqa: E402

from mmface.utils.cli import main_guard, make_parser  # noqa: E402

HEAD = '| fault | tries | survived | message |\n| --- | ---: | ---: | --- |\n'


def collect(quick: bool = False, filters: Iterable[str] = ()) -> list[tuple[str, Case]]:
    """Return the cases of all ``*_cases.py`` with their names, ``<file>: <fault>``.

    Args:
        quick: Return only those that may run in CI.
        filters: Return only those whose name contains one of these words.
    """
    wanted = [word.lower() for word in filters]
    found = []
    for file in sorted(HERE.glob('*_cases.py')):
        for case in importlib.import_module(file.stem).CASES:
            name = f'{file.stem.removesuffix("_cases")}: {case.fault}'
            if (case.quick or not quick) and (
                not wanted or any(word in name.lower() for word in wanted)
            ):
                found.append((name, case))
    return found


def run_case(case: Case) -> Outcome:
    """Run a case in its own folder; if it raises, no try survived."""
    with tempfile.TemporaryDirectory(prefix='mmface_fault_', ignore_cleanup_errors=True) as folder:
        try:
            return case.run(Path(folder))
        except Exception as error:
            traceback.print_exc()
            return Outcome(0, f'{type(error).__name__}: {error}')


def row(name: str, case: Case, outcome: Outcome) -> str:
    """Return a line of the table."""
    message = ' '.join(outcome.message.split()).replace('|', r'\|')
    return f'| {name} | {case.tries} | {outcome.survived} | {message} |\n'


def main() -> None:
    parser = make_parser(__doc__, 'python test/faults/run.py --quick preempt lock --out faults.md')
    add = parser.add_argument
    add('filters', nargs='*', metavar='WORD', help='only faults whose name contains one of these')
    add('--quick', action='store_true', help='only the quick faults, as in CI')
    add('--list', action='store_true', help='only list their names')
    add('--out', type=Path, metavar='FILE', help='also write the table to this file')
    args = parser.parse_args()
    cases = collect(args.quick, args.filters)
    if not cases:
        raise ValueError('expected words of fault names, found no match; --list shows all names')
    if args.list:
        for name, case in cases:
            print(f'{name} ({case.tries} tries{", quick" if case.quick else ""})')
        return
    table, failed = HEAD, 0
    print(HEAD, end='')
    for name, case in cases:
        start = time.monotonic()
        outcome = run_case(case)
        line = row(name, case, outcome)
        print(line, end='', flush=True)
        sys.stderr.write(f'{name}: {time.monotonic() - start:.0f} s\n')
        table += line
        failed += outcome.survived < case.tries
        if args.out is not None:  # after each case, because all cases may take an hour
            args.out.write_text(table, encoding='utf-8')
    if failed:
        raise ValueError(f'{failed} of {len(cases)} faults were not survived in every try')


if __name__ == '__main__':
    main_guard(main)
