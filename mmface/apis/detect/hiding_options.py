# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Options of ``detect`` that say how faces are drawn or hidden, and how videos are processed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmface.apis.detect.base import Render
from mmface.apis.detect.own_boxes import OwnBoxes
from mmface.apis.detect.render import HideFaces, MarkFaces
from mmface.apis.detect.videos import Gaps
from mmface.utils.draw import MARGIN, SHAPES, STYLES

_GAPS = Gaps()


def add_hiding_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command line."""
    add = parser.add_argument
    add(
        '--blur',
        action='store_true',
        help='hide the faces instead of marking them; faces that are not found stay visible, so '
        'check the result',
    )
    add('--style', choices=STYLES, default='blur', help='how --blur hides (default blur)')
    add('--shape', choices=SHAPES, default='box', help='what --blur covers (default box)')
    add(
        '--margin',
        type=float,
        default=MARGIN,
        help=f'extra border of a hidden face on each side, relative to its box (default {MARGIN})',
    )
    add(
        '--boxes',
        type=Path,
        metavar='FILE',
        help='further boxes that --blur hides: lines as --json writes them, such as {"image": '
        '"a.jpg", "faces": [{"bbox": [x1, y1, x2, y2]}]}, or with "video" and "frame"; without '
        '"frame" in all frames, without a name everywhere',
    )
    add(
        '--keep',
        type=Path,
        metavar='FILE',
        help='boxes in the same form: --blur does not hide faces whose centre lies in one of them',
    )
    add(
        '--max-gap',
        type=int,
        metavar='N',
        default=_GAPS.max_gap,
        help='in videos, a face that is missed in at most N frames between two sightings is the '
        f'same track, and --blur hides it in between (default {_GAPS.max_gap})',
    )
    add(
        '--hold',
        type=int,
        metavar='N',
        default=_GAPS.hold,
        help='in videos, --blur also hides the place of a face for N frames before its first and '
        f'after its last sighting (default {_GAPS.hold})',
    )


def check_hiding_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a message if the options do not fit together."""
    if not args.blur and (args.boxes or args.keep):
        parser.error('--boxes and --keep say what --blur hides: add --blur')
    if not 0 <= args.margin <= 10:
        parser.error(f'--margin {args.margin}: expected a number from 0 to 10')
    for name, value in (('--max-gap', args.max_gap), ('--hold', args.hold)):
        if not 0 <= value <= 1000:
            parser.error(f'{name} {value}: expected a number of frames from 0 to 1000')


def build_render(args: argparse.Namespace) -> Render:
    """Return the function that draws or hides faces.

    Raises:
        FileNotFoundError: A file of boxes does not exist.
        ValueError: A file of boxes cannot be read.
    """
    if not args.blur:
        return MarkFaces()
    boxes, keep = (OwnBoxes(path) if path else None for path in (args.boxes, args.keep))
    return HideFaces(args.style, args.shape, args.margin, boxes, keep)


def check_names(render: Render, names: Sequence[str]) -> None:
    """Check that the user's boxes belong to the inputs.

    Raises:
        ValueError: They name an image or a video that is not among the inputs.
    """
    if isinstance(render, HideFaces):
        for own in (render.boxes, render.keep):
            if own is not None:
                own.check(names)


def build_gaps(args: argparse.Namespace) -> Gaps:
    """Return how faces are followed through a video."""
    return Gaps(args.max_gap, args.blur, args.hold, args.score_thr)


def hiding_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that decide the content of the results, for ``settings.json``."""
    if not args.blur:
        return {'blur': False, 'max_gap': args.max_gap}
    blur = {name: getattr(args, name) for name in ('style', 'shape', 'margin', 'hold')}
    for name in ('boxes', 'keep'):
        if path := getattr(args, name):
            blur[name] = [str(path.resolve()), path.stat().st_mtime]
    return {'blur': blur, 'max_gap': args.max_gap}
