# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert face labels to COCO-style JSON with landmarks, or to labelv2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmface.utils.cli import make_parser
from mmface.utils.progress import progress_bar
from mmface.utils.quiet import import_mmdet_quietly

if TYPE_CHECKING:
    from mmface.datasets.annotations import FaceAnnotation

_ABOUT = """\
Converts labels of faces from any format mmface reads (labelv2, the official bbx_gt text,
RetinaFace's label.txt, COCO-style JSON; told by the content) to the one that the name of DST
asks for: .json is COCO-style JSON with five landmarks a face, as the CenterFace projects read
it (annotations/train_wider_face.json, annotations/train.json), .txt is labelv2. Boxes
without area in their picture are left out, as in the published files. Pictures are only
opened, with --images, where SRC does not give their sizes."""
_FORMATS = ('auto', 'labelv2', 'bbx_gt', 'retinaface', 'coco')


def with_sizes(
    entries: Sequence[FaceAnnotation], source: Path, images: Path | None
) -> list[FaceAnnotation]:
    """Add the sizes of pictures that the labels do not give.

    Raises:
        FileNotFoundError: If a picture or their folder is missing.
        ValueError: If a picture cannot be read, or the folder is not known.
    """
    from mmface.utils.images import image_size

    unknown = sum(entry.width <= 0 or entry.height <= 0 for entry in entries)
    if not unknown:
        return list(entries)
    folder = images or source.parent / 'images'
    if not folder.is_dir():
        if images is not None:
            raise FileNotFoundError(f'the folder of pictures {images} does not exist')
        raise ValueError(
            f'{source} does not give the sizes of {unknown} pictures: name the folder that holds '
            f'them, such as that of {entries[0].path}, with --images'
        )
    sized = []
    for entry in progress_bar(entries, desc='sizes', unit='picture'):
        if entry.width <= 0 or entry.height <= 0:
            file = folder / entry.path
            if not file.is_file():
                raise FileNotFoundError(
                    f'the picture {file}, listed in {source}, does not exist: name another folder '
                    'with --images, or take it out of the labels'
                )
            try:
                width, height = image_size(file)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f'the picture {file}, listed in {source}, cannot be read ({error}): get it '
                    'again, or take it out of the labels'
                ) from None
            entry = entry._replace(width=width, height=height)
        sized.append(entry)
    return sized


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        _ABOUT, 'python tools/data/convert_labels.py label.txt train.json --images train/images'
    )
    add = parser.add_argument
    add('source', type=Path, metavar='SRC', help='label file to read')
    add('target', type=Path, metavar='DST', help='file to write, .json or .txt')
    add('--images', type=Path, metavar='DIR', help='folder of the pictures (SRC/../images)')
    add('--format', default='auto', choices=_FORMATS, help='of SRC (%(default)s)')
    return parser.parse_args(argv)


def main() -> None:
    """Convert the labels."""
    args = parse_args()
    if args.target.suffix not in ('.json', '.txt'):
        raise ValueError(f'{args.target}: expected a name ending in .json or .txt (labelv2)')
    if args.target.resolve() == args.source.resolve():
        raise ValueError(f'{args.target} is the file to read: give another name')
    import_mmdet_quietly()
    from mmface.datasets.annotations import read_annotations
    from mmface.datasets.coco_json import coco_text
    from mmface.datasets.prepare_labels import labelv2_text
    from mmface.utils.files import write_text

    pictures = with_sizes(read_annotations(args.source, args.format), args.source, args.images)
    by_path = {picture.path: picture for picture in pictures}
    if len(by_path) < len(pictures):
        first = next(p.path for p in pictures if by_path[p.path] is not p)
        raise ValueError(
            f'{args.source} lists the picture {first} more than once: join the entries'
        )
    faces = sum(len(picture.bboxes) for picture in pictures)
    pictures = [picture.where(picture.has_area) for picture in pictures]
    if args.target.suffix == '.json':
        text = coco_text(pictures)
    else:
        sizes = {picture.path: (picture.width, picture.height) for picture in pictures}
        text = labelv2_text({picture.path: picture for picture in pictures}, sizes, 'train')
    write_text(args.target, text)
    kept = sum(len(picture.bboxes) for picture in pictures)
    points = sum(int((p.keypoints[..., 2] > 0).any(axis=1).sum()) for p in pictures)
    print(
        f'{args.target}: {len(pictures):,} pictures, {kept:,} faces, {points:,} of them with '
        f'landmarks; {faces - kept:,} boxes without area in their picture left out'
    )
