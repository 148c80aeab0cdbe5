# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Put the package through its faults and write what came out as a table."""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from case import Case, Outcome  # noqa: E402

from mmface.utils.cli import main_guard, make_parser  # noqa: E402

HEAD = '| fault | tries | survived | message |\n| --- | ---: | ---: | --- |\n'


def collect(quick: bool = False, filters: Iterable[str] = ()) -> list[tuple[str, Case]]:
    """Return the cases of all ``*_cases.py`` with their names, ``<file>: <fault>``.

    Args:
        quick: Only those that may run in CI.
        filters: Only those whose name holds one of these words.
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
    """Run a case in a folder of its own; an exception survives nothing."""
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
    add('filters', nargs='*', metavar='WORD', help='only faults whose name holds one of the words')
    add('--quick', action='store_true', help='only those of seconds, as CI runs them')
    add('--list', action='store_true', help='only name them')
    add('--out', type=Path, metavar='FILE', help='also write the table there')
    args = parser.parse_args()
    cases = collect(args.quick, args.filters)
    if not cases:
        raise ValueError('no fault has such a name; --list names them all')
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
        if args.out is not None:  # after each: the whole may take an hour
            args.out.write_text(table, encoding='utf-8')
    if failed:
        raise ValueError(f'{failed} of {len(cases)} faults were not survived every time')


if __name__ == '__main__':
    main_guard(main)
