# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Look for what Ascend's ATC is known to refuse in an ONNX file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmface.utils.cli import make_parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        'Look for what ATC, the compiler of Ascend, is known to refuse or to run badly in ONNX '
        'files: operators, dynamic sides, versions, names, types. A lint, not a conversion: '
        'nothing is compiled, and ATC has the last word. Exit status 1 if anything is found.',
        'python tools/deploy/lint_om.py scrfd.onnx --cann 8.0',
    )
    parser.add_argument('models', nargs='+', type=Path, metavar='MODEL', help='ONNX file')
    parser.add_argument('--cann', default='8.0', help='version of CANN (default %(default)s)')
    return parser.parse_args(argv)


def main() -> None:
    """Lint files."""
    args = parse_args()

    from mmface.deploy.om_lint import lint, load_onnx

    total = 0
    for path in args.models:
        findings = lint(load_onnx(path), args.cann)
        total += len(findings)
        for where, problem, remedy in findings:
            print(f'{path}: {where + ": " if where else ""}{problem}\n    {remedy}')
        if not findings:
            print(f'{path}: nothing found for CANN {args.cann}')
    print('this is a lint, not a conversion: ATC has the last word')
    sys.exit(1 if total else 0)
