# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert face labels to COCO-style JSON with keypoints, or to labelv2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmface.utils.cli import make_parser
from mmface.utils.progress import progress_bar
from mmface.utils.quiet import import_mmdet_quietly

if TYPE_CHECKING:
    from mmface.datasets.face_annotation import FaceAnnotation

_ABOUT = """\
Converts labels of faces to the format that the name of DST selects, and checks them. SRC is a
file (labelv2, the official bbx_gt text, RetinaFace's label.txt, COCO JSON, one labelme or Pascal
VOC file) or a folder of YOLO texts, labelme JSON or Pascal VOC XML; the format is detected.
DST .json is COCO JSON with all classes and keypoints; .txt is labelv2, which has one class.
Boxes without area in their image are skipped, as in the published files. Images are opened if
the labels do not contain their sizes, or, to compare the sizes, if they are named or beside SRC.
Nothing is left out without a note. mmface/datasets/README.md lists mistakes and messages."""
_SHOWN = 5  # maximum number of images of another size to name


def with_sizes(
    entries: Sequence[FaceAnnotation], source: Path, images: Path | None
) -> list[FaceAnnotation]:
    """Add the image sizes that the labels do not contain, and compare those that they contain.

    If the labels contain the sizes and ``images`` is None, images need not be there.

    Raises:
        FileNotFoundError: An image or the image folder is missing.
        ValueError: An image cannot be read or has another size, or the folder is not known.
    """
    from mmface.datasets.label_checks import size_problem

    unknown = sum(entry.width <= 0 or entry.height <= 0 for entry in entries)
    folder = images or source.parent / 'images'
    if not folder.is_dir():
        if images is not None:
            raise FileNotFoundError(f'the folder of images {images} does not exist')
        if unknown:
            raise ValueError(
                f'{source} does not contain the sizes of {unknown} images: name the folder that '
                f'contains them, such as that of {entries[0].path}, with --images'
            )
        return list(entries)
    sized, wrong = [], []
    for entry in progress_bar(entries, desc='sizes', unit='image'):
        stated = (entry.width, entry.height)
        known = min(stated) > 0
        try:
            size = _size_of(folder / entry.path, source)
        except (FileNotFoundError, ValueError):
            if images is not None or not known:
                raise
            size = stated
        if known and size != stated:
            wrong.append(size_problem(entry.path, stated, size))
        sized.append(entry._replace(width=size[0], height=size[1]))
    if wrong:
        raise ValueError(
            f'{source}: {len(wrong)} of {len(entries)} images have another size than their labels '
            f'say: {"; ".join(wrong[:_SHOWN])}'
        )
    return sized


def _size_of(file: Path, source: Path) -> tuple[int, int]:
    from mmface.utils.images import image_size

    if not file.is_file():
        raise FileNotFoundError(
            f'the image {file}, listed in {source}, does not exist: name another folder '
            'with --images, or remove it from the labels'
        )
    try:
        return image_size(file)
    except (OSError, ValueError) as error:
        raise ValueError(
            f'the image {file}, listed in {source}, cannot be read ({error}): download it '
            'again, or remove it from the labels'
        ) from None


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        _ABOUT, 'python tools/data/convert_labels.py label.txt train.json --images train/images'
    )
    add = parser.add_argument
    add('source', type=Path, metavar='SRC', help='label file or folder to read')
    add('target', type=Path, metavar='DST', help='file to write, .json or .txt')
    add('--images', type=Path, metavar='DIR', help='folder of the images (SRC/../images)')
    add('--format', default='auto', help='name of the format of SRC (default: detected)')
    add(
        '--category',
        action='append',
        metavar='NAME',
        help='class to keep; repeat it for several, in the order of their numbers (default: all)',
    )
    return parser.parse_args(argv)


def main() -> None:
    """Convert the labels."""
    args = parse_args()
    if args.target.suffix not in ('.json', '.txt'):
        raise ValueError(f'{args.target}: expected a name ending in .json or .txt (labelv2)')
    if args.target.resolve() == args.source.resolve():
        raise ValueError(f'{args.target} is the source file: choose another name')
    # Importing mmface.datasets imports the mm packages if they are there; it does not need them.
    with suppress(ModuleNotFoundError):
        import_mmdet_quietly()
    from mmface.datasets.annotations import read_annotations
    from mmface.datasets.coco_json import coco_text
    from mmface.datasets.face_annotation import one_class
    from mmface.datasets.prepare_labels import labelv2_text
    from mmface.utils.files import write_text

    labels = read_annotations(args.source, args.format, args.category, args.images)
    if args.target.suffix == '.txt':
        labels = one_class(labels, str(args.source))
    for note in labels.notes:
        print(f'note: {note}')
    images = with_sizes(labels.images, args.source, args.images)
    faces = sum(len(image.bboxes) for image in images)
    images = [image.where(image.has_area) for image in images]
    if args.target.suffix == '.json':
        text = coco_text(replace(labels, images=images))
    else:
        sizes = {image.path: (image.width, image.height) for image in images}
        text = labelv2_text({image.path: image for image in images}, sizes, 'train')
    write_text(args.target, text)
    kept = sum(len(image.bboxes) for image in images)
    points = sum(int((p.keypoints[..., 2] > 0).any(axis=1).sum()) for p in images)
    kinds = f' of {len(labels.classes)} classes' if len(labels.classes) > 1 else ''
    print(
        f'{args.target}: {len(images):,} images, {kept:,} faces{kinds}, {points:,} of them with '
        f'keypoints; {faces - kept:,} boxes without area in their image skipped'
    )
