# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Draw a small WIDER FACE with landmarks: nothing to download, no licence to accept."""

from __future__ import annotations

import time
from pathlib import Path

from mmface.toys.widerface import EVENTS, make_toy_widerface
from mmface.utils.cli import main_guard, make_parser


def main() -> None:
    """Make the data set."""
    parser = make_parser(__doc__ or '', 'python tools/data/make_toy_widerface.py data/toy')
    add = parser.add_argument
    add('root', type=Path, help='folder to make, in the layout that all configs read')
    add('--num-train', type=int, default=240, help='training pictures (%(default)s)')
    add('--num-val', type=int, default=60, help='validation pictures (%(default)s)')
    add('--size', type=int, nargs=2, default=(480, 360), metavar=('W', 'H'), help='in pixels')
    add('--seed', type=int, default=0, help='another seed draws another set (%(default)s)')
    add('--events', nargs='+', default=EVENTS, help=f'event folders ({" ".join(EVENTS)})')
    add('--no-edge-cases', action='store_true', help='only ordinary pictures')
    args = parser.parse_args()
    start = time.perf_counter()
    root = make_toy_widerface(
        args.root,
        num_train=args.num_train,
        num_val=args.num_val,
        image_size=(args.size[0], args.size[1]),
        seed=args.seed,
        events=args.events,
        edge_cases=not args.no_edge_cases,
        progress=True,
    )
    seconds = time.perf_counter() - start
    counts = f'{args.num_train} training and {args.num_val} validation pictures'
    print(f'{root}: {counts} ({seconds:.1f} s)')


if __name__ == '__main__':
    main_guard(main)
