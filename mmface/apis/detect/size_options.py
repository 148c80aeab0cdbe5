# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Options of ``detect`` that say in which size images pass through an ONNX network."""

from __future__ import annotations

import argparse
from typing import Any


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command line."""
    add = parser.add_argument
    add(
        '--size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='input size of the network (--model; default: the size it was tested with)',
    )
    add(
        '--canvas',
        choices=('full', 'tight'),
        default='full',
        help="'tight' pads SCRFD's images only to multiples of 32, which saves a quarter of the "
        'work on average (--model)',
    )
    add(
        '--tiles',
        action='store_true',
        help='also search images that are larger than the input in overlapping tiles, for small '
        'faces in large images; takes as many times longer as there are tiles (--model)',
    )


def size_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the given options as arguments of ``FaceDetector``, and for ``settings.json``."""
    chosen = {'size': args.size, 'canvas': args.canvas, 'tiles': args.tiles}
    return {name: value for name, value in chosen.items() if value not in (None, 'full', False)}


def check_size_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a message if the options do not fit the kind of model."""
    if args.config and (given := size_settings(args)):
        parser.error(f'--{min(given)} is for ONNX files: give --model')
