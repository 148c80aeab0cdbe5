# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Draw a small data set like WIDER FACE or COCO: no download and no licence needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mmface.toys.coco import make_toy_coco
from mmface.toys.widerface import EVENTS, make_toy_widerface
from mmface.utils.cli import main_guard, make_parser

#: For each set: what it contains, the function that draws it, and image width and height.
SETS: dict[str, tuple[str, Callable[..., Path], int, int]] = {
    'widerface': ('faces with keypoints in the layout of WIDER FACE', make_toy_widerface, 480, 360),
    'coco': ('five classes of shapes in the layout of COCO 2017', make_toy_coco, 320, 240),
}


def main() -> None:
    """Create the data set."""
    parser = make_parser(
        __doc__ or '', 'python tools/data/make_toy.py widerface data/toy_widerface'
    )
    sets = parser.add_subparsers(dest='set', required=True, metavar='widerface|coco')
    for name, (text, _, width, height) in SETS.items():
        add = sets.add_parser(name, help=text, description=f'Draw {text}.').add_argument
        add('root', type=Path, help='folder to write')
        add('--num-train', type=int, default=240, help='training images (%(default)s)')
        add('--num-val', type=int, default=60, help='validation images (%(default)s)')
        add(
            '--size',
            type=int,
            nargs=2,
            default=(width, height),
            metavar=('W', 'H'),
            help=f'image size in pixels ({width} {height})',
        )
        add('--seed', type=int, default=0, help='seed of the random drawings (%(default)s)')
        add('--no-edge-cases', action='store_true', help='only ordinary images')
        if name == 'widerface':
            add('--events', nargs='+', default=EVENTS, help=f'event folders ({" ".join(EVENTS)})')
    args = parser.parse_args()
    start = time.perf_counter()
    root = SETS[args.set][1](
        args.root,
        num_train=args.num_train,
        num_val=args.num_val,
        image_size=(args.size[0], args.size[1]),
        seed=args.seed,
        edge_cases=not args.no_edge_cases,
        progress=True,
        **({'events': args.events} if args.set == 'widerface' else {}),
    )
    seconds = time.perf_counter() - start
    counts = f'{args.num_train} training and {args.num_val} validation images'
    print(f'{root}: {counts} ({seconds:.1f} s)')


if __name__ == '__main__':
    main_guard(main)
