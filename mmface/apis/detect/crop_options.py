# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Options of ``detect`` that write each face as an image."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmface.alignment import SIDE, template
from mmface.apis.detect.crops import CropWriter


def add_crop_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command line."""
    add = parser.add_argument
    add(
        '--crops',
        type=Path,
        metavar='DIR',
        help='also write each face of the images as DIR/NAME.face0.png, NAME.face1.png ...',
    )
    add(
        '--crop-margin',
        type=float,
        metavar='SHARE',
        help='border of a crop on each side, relative to the box (default 0)',
    )
    add(
        '--align',
        type=int,
        nargs='?',
        const=SIDE,
        metavar='SIZE',
        help=f'turn the crops upright for face recognition (ArcFace, default {SIDE} pixels); needs '
        'a model with five keypoints',
    )


def check_crop_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check the options."""
    if args.crops is None and (args.align is not None or args.crop_margin is not None):
        parser.error('--align and --crop-margin belong to --crops DIR')
    if args.crop_margin is not None and (args.align is not None or not args.crop_margin >= 0):
        parser.error('--crop-margin: expected 0 or more, and no --align, which has its own border')
    if args.align is not None:
        try:
            template(args.align)
        except ValueError as error:
            parser.error(f'--align: {error}')


def build_crops(args: argparse.Namespace) -> CropWriter | None:
    """Return the writer of crops, ``None`` if they are not wanted."""
    if args.crops is None:
        return None
    return CropWriter(args.crops, args.crop_margin or 0.0, args.align)


def crop_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that decide the content of the results, for ``settings.json``."""
    if args.crops is None:
        return {}
    return {
        'crops': str(args.crops.resolve()),
        'crop_margin': args.crop_margin or 0.0,
        'align': args.align,
    }
