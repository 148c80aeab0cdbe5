# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Options of ``detect`` that say how faces are drawn or hidden, and how videos are processed."""

from __future__ import annotations

import argparse
from typing import Any

from mmface.apis.detect.base import Render
from mmface.utils.draw import blur_faces, mark_faces


def add_hiding_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command line."""
    add = parser.add_argument
    add(
        '--blur',
        action='store_true',
        help='blur the faces instead of marking them; faces that are not found stay visible, so '
        'check the result',
    )


def build_render(args: argparse.Namespace) -> Render:
    """Return the function that draws or hides faces."""
    return blur_faces if args.blur else mark_faces


def hiding_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that decide the content of the results, for ``settings.json``."""
    return {'blur': args.blur}
