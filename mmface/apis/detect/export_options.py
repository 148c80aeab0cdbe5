# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Options of ``detect`` that write tables and labels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress

from mmface.apis.detect.records import read_records, write_csv
from mmface.apis.detect.results import Results
from mmface.utils.quiet import import_mmdet_quietly
from mmface.utils.sources import Source

# OUT is the folder of the results.
_HELP = {
    'csv': 'also write OUT/faces.csv, a row for each face of images and videos',
    'coco': 'also write OUT/faces.coco.json, to correct in an annotation tool or to train on',
    'yolo': 'also write OUT/yolo, a data set in the format of YOLO with links to the images',
    'labelme': 'also write OUT/labelme, a JSON file beside a link to each image',
}


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--csv``, ``--coco``, ``--yolo`` and ``--labelme``."""
    for name, text in _HELP.items():
        parser.add_argument(f'--{name}', action='store_true', help=f'{text}; implies --json')


def check_export_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check the options, and turn on ``--json`` for those that need it."""
    if args.blur and (args.yolo or args.labelme):
        parser.error('--yolo and --labelme link to the images as they are: not with --blur')
    args.json = args.json or any(getattr(args, name) for name in _HELP)


def write_exports(
    args: argparse.Namespace, results: Results, sources: Sequence[Source]
) -> list[str]:
    """Write the tables from the JSON files of this and earlier runs.

    Args:
        args: The options.
        results: The results.
        sources: All inputs of the run, also those whose results existed already.

    Returns:
        A line for each file or folder that was written.

    Raises:
        OSError: A file cannot be written.
        ValueError: Two images would have the same labels.
    """
    if not any(getattr(args, name) for name in _HELP):
        return []
    lines = []
    if args.csv:
        write_csv(args.out / 'faces.csv', read_records(results, sources))
        lines.append(f'{args.out / "faces.csv"}: written')
    if not (args.coco or args.yolo or args.labelme):
        return lines
    with suppress(ImportError):  # labels need no mmdet, but their package imports it if it is there
        import_mmdet_quietly()
    from mmface.apis.detect import exports

    # The pages of a file are not files that other programs can open.
    images = [source for source in sources if not source.is_video and source.page is None]
    records = list(read_records(results, images))
    labels = exports.to_labels(records)
    files = [record.source.path for record in records]
    if args.coco:
        exports.write_coco(args.out / 'faces.coco.json', labels, records)
    if args.yolo:
        exports.write_yolo(args.out / 'yolo', labels, files)
    if args.labelme:
        exports.write_labelme(args.out / 'labelme', labels, files)
    count = sum(len(entry.bboxes) for entry in labels.images)
    return [*lines, f'{args.out}: labels of {len(labels.images)} images with {count} faces']
