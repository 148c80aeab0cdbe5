# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Options that say how many images are processed at the same time."""

from __future__ import annotations

import argparse

import cv2

from mmface.utils.pipeline import usable_cores


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--workers`` and ``--threads``."""
    parser.add_argument(
        '--workers',
        type=int,
        default=usable_cores(),
        help='images that are processed at the same time (default: the number of CPU cores)',
    )
    parser.add_argument(
        '--threads',
        type=int,
        help='CPU threads of the network for one image (default: 1 with several workers, else all)',
    )


def check_worker_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check the options, and set the number of threads for several workers."""
    for name in ('workers', 'threads'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name} {value}: expected at least 1')
    if args.workers > 1:
        cv2.setNumThreads(1)  # each worker keeps one core busy
        args.threads = args.threads or 1
