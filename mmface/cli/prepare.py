# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert WIDER FACE from any common layout to the layout that all configs read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mmface.utils.cli import make_parser
from mmface.utils.quiet import import_mmdet_quietly

if TYPE_CHECKING:
    from mmface.datasets.prepare import Preparation

_SHOWN = 20  # maximum number of problems to print

_ABOUT = """\
Makes OUT/{train,val}/images/<event>/*.jpg, OUT/{train,val}/labelv2.txt and OUT/val/gt/*.mat
from the official archives (WIDER_train.zip, WIDER_val.zip, wider_face_split.zip,
eval_tools.zip), from their unpacked folders, or from any other common folder layout. Images
are linked where possible, otherwise copied. Every listed image is checked. If one is missing
or does not fit its labels, nothing is written. Labels: labelv2.txt, RetinaFace's label.txt,
COCO-style JSON, the official bbx_gt text, the .mat files."""


def table(preparation: Preparation) -> str:
    """Return a table of what was found, one row per split."""
    heads = (
        'split',
        'listed',
        'found',
        'bad',
        'unlisted',
        'faces',
        'keypoints',
        'ignored',
        'labels',
    )
    rows: list[tuple[str, ...]] = [heads]
    for s in preparation.splits:
        faces = sum(len(f.bboxes) for f in s.faces.values())
        ignored = sum(int(f.ignore.sum()) for f in s.faces.values())
        numbers = (
            len(s.faces),
            len(s.images),
            len(s.problems),
            s.unlisted,
            faces,
            s.keypoints,
            ignored,
        )
        rows.append((s.name, *(f'{n:,}' for n in numbers), f'{s.kind} {s.labels}'))
    widths = [max(len(row[k]) for row in rows) for k in range(len(heads) - 1)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(row[1:-1], widths[1:], strict=True)]
        lines.append('  '.join([*cells, row[-1]]))
    return '\n'.join(lines)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        _ABOUT,
        'python tools/data/prepare_widerface.py WIDER_train.zip WIDER_val.zip '
        'wider_face_split.zip eval_tools.zip --out data/WIDERFace',
    )
    add = parser.add_argument
    add('sources', nargs='+', type=Path, metavar='SRC', help='zip archives, folders, label files')
    add('--out', type=Path, default=Path('data/WIDERFace'), help='folder to write (%(default)s)')
    add('--part', type=Path, metavar='LIST', help="only these images ('event/name.jpg' lines)")
    add('--decode', action='store_true', help='decode every image, and list damaged ones')
    add('--copy', action='store_true', help='always copy images instead of linking them')
    return parser.parse_args(argv)


def main() -> None:
    """Prepare the data set."""
    args = parse_args()
    # Importing mmface.datasets imports the mm packages if they are there; it does not need them.
    with suppress(ModuleNotFoundError):
        import_mmdet_quietly()
    from mmface.datasets.prepare import Preparation

    with Preparation(args.sources, args.out, args.part, True, args.decode) as found:
        problems = found.problems
        for text in problems[:_SHOWN]:
            print(text, file=sys.stderr)
        print(table(found))
        for note in found.notes:
            print(f'note: {note}')
        if any(s.name == 'train' and not s.keypoints for s in found.splits):
            print(
                'note: the training labels have no keypoints: train configs without _bnkps, or '
                'add a labelv2.txt or label.txt with five keypoints per face'
            )
        if problems:
            more = f' (the first {_SHOWN} are shown above)' if len(problems) > _SHOWN else ''
            raise ValueError(
                f'{len(problems)} images are missing or do not fit{more}; nothing was written. '
                'Download the archive again, or skip these images with --part LIST'
            )
        if not found.splits:
            raise ValueError('no split has both images and labels: add the missing archive')
        found.write(args.copy)
        if args.part is not None and found.ground_truth:
            part = args.out / 'val' / 'part.txt'
            print(f'note: val/gt still lists all images: evaluate with --part {part}')
    print(f'{args.out} is ready: use --data-path {args.out}')
