# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find parts of an ONNX file that Ascend's ATC is known to reject."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmface.utils.cli import make_parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        'Find parts of ONNX files that ATC, the compiler of Ascend, is known to reject or to run '
        'badly: operators, dynamic sides, versions, names, types. This is a lint, not a '
        'conversion: nothing is compiled. The exit status is 1 if anything is found.',
        'python tools/deploy/lint_om.py scrfd.onnx --cann 8.0',
    )
    parser.add_argument('models', nargs='+', type=Path, metavar='MODEL', help='ONNX file')
    parser.add_argument('--cann', default='8.0', help='version of CANN (default %(default)s)')
    return parser.parse_args(argv)


def main() -> None:
    """Lint files."""
    args = parse_args()

    from mmface.deploy.om_lint import lint
    from mmface.weights.onnx_repair import load_onnx

    total = 0
    for path in args.models:
        findings = lint(load_onnx(path), args.cann)
        total += len(findings)
        for where, problem, remedy in findings:
            print(f'{path}: {where + ": " if where else ""}{problem}\n    {remedy}')
        if not findings:
            print(f'{path}: nothing found for CANN {args.cann}')
    print('this is a lint, not a conversion: only ATC can tell whether the file compiles')
    sys.exit(1 if total else 0)
