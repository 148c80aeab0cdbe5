# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert face labels to COCO-style JSON with keypoints, or to labelv2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmface.utils.cli import make_parser
from mmface.utils.progress import progress_bar
from mmface.utils.quiet import import_mmdet_quietly

if TYPE_CHECKING:
    from mmface.datasets.face_annotation import FaceAnnotation

_ABOUT = """\
Converts face labels to the format that the name of DST selects. It reads every format that
mmface knows (labelv2, the official bbx_gt text, RetinaFace's label.txt, COCO-style JSON) and
detects the format from the content. .json is COCO-style JSON with five keypoints per face, as
the CenterFace projects read it (annotations/train_wider_face.json, annotations/train.json).
.txt is labelv2. Boxes without area in their image are skipped, as in the published files.
Images are opened, with --images, only if SRC does not contain their sizes."""


def with_sizes(
    entries: Sequence[FaceAnnotation], source: Path, images: Path | None
) -> list[FaceAnnotation]:
    """Add the image sizes that the labels do not contain.

    Raises:
        FileNotFoundError: An image or the image folder is missing.
        ValueError: An image cannot be read, or the image folder is not known.
    """
    from mmface.utils.images import image_size

    unknown = sum(entry.width <= 0 or entry.height <= 0 for entry in entries)
    if not unknown:
        return list(entries)
    folder = images or source.parent / 'images'
    if not folder.is_dir():
        if images is not None:
            raise FileNotFoundError(f'the folder of images {images} does not exist')
        raise ValueError(
            f'{source} does not contain the sizes of {unknown} images: name the folder that '
            f'contains them, such as that of {entries[0].path}, with --images'
        )
    sized = []
    for entry in progress_bar(entries, desc='sizes', unit='image'):
        if entry.width <= 0 or entry.height <= 0:
            file = folder / entry.path
            if not file.is_file():
                raise FileNotFoundError(
                    f'the image {file}, listed in {source}, does not exist: name another folder '
                    'with --images, or remove it from the labels'
                )
            try:
                width, height = image_size(file)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f'the image {file}, listed in {source}, cannot be read ({error}): download it '
                    'again, or remove it from the labels'
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
    add('--images', type=Path, metavar='DIR', help='folder of the images (SRC/../images)')
    add('--format', default='auto', help='name of the format of SRC (default: detected)')
    return parser.parse_args(argv)


def main() -> None:
    """Convert the labels."""
    args = parse_args()
    if args.target.suffix not in ('.json', '.txt'):
        raise ValueError(f'{args.target}: expected a name ending in .json or .txt (labelv2)')
    if args.target.resolve() == args.source.resolve():
        raise ValueError(f'{args.target} is the source file: choose another name')
    import_mmdet_quietly()
    from mmface.datasets.annotations import read_annotations
    from mmface.datasets.coco_json import coco_text
    from mmface.datasets.prepare_labels import labelv2_text
    from mmface.utils.files import write_text

    labels = read_annotations(args.source, args.format)
    images = with_sizes(labels.images, args.source, args.images)
    by_path = {image.path: image for image in images}
    if len(by_path) < len(images):
        first = next(p.path for p in images if by_path[p.path] is not p)
        raise ValueError(f'{args.source} lists the image {first} more than once: join the entries')
    faces = sum(len(image.bboxes) for image in images)
    images = [image.where(image.has_area) for image in images]
    if args.target.suffix == '.json':
        text = coco_text(images)
    else:
        sizes = {image.path: (image.width, image.height) for image in images}
        text = labelv2_text({image.path: image for image in images}, sizes, 'train')
    write_text(args.target, text)
    kept = sum(len(image.bboxes) for image in images)
    points = sum(int((p.keypoints[..., 2] > 0).any(axis=1).sum()) for p in images)
    print(
        f'{args.target}: {len(images):,} images, {kept:,} faces, {points:,} of them with '
        f'keypoints; {faces - kept:,} boxes without area in their image skipped'
    )
