# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Bulk runs of ``detect``: tar shards, lists and folders in, Parquet files out."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence

from mmface.apis.detect.base import Detector
from mmface.apis.detect.render import MarkFaces
from mmface.apis.detect.results import Results
from mmface.apis.detect.size_options import size_settings
from mmface.utils.cli import one_line
from mmface.utils.progress import progress_bar
from mmface.utils.sources import count_reasons
from mmface.utils.walk import Skipped


def add_bulk_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command line."""
    parser.add_argument(
        '--parquet',
        action='store_true',
        help='bulk run: write only a Parquet file for each shard, with a row for each image; '
        'shards are tar files (WebDataset), folders, and @FILE, a list with one path a line',
    )
    parser.add_argument(
        '--shard',
        metavar='I/N',
        help='with --parquet: do part I (from 0) of N equal parts, for N runs that share the work',
    )


def check_bulk_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check the options and replace ``shard`` by a pair of numbers."""
    if args.shard is not None and not args.parquet:
        parser.error('--shard I/N belongs to --parquet')
    match = re.fullmatch(r'(\d+)/(\d+)', args.shard or '0/1')
    if match is None or int(match[1]) >= int(match[2]):
        parser.error(f'--shard {args.shard}: expected I/N with I from 0 to N - 1, such as 0/8')
    args.shard = (int(match[1]), int(match[2]))
    if args.parquet and (args.blur or args.json or args.crops is not None):
        parser.error('--parquet writes only tables: --blur, --json and --crops do not go with it')
    lists = [name for name in args.inputs if name.startswith('@')]
    if lists and not args.parquet:
        parser.error(f'{lists[0]}: lists belong to --parquet')


def run_bulk(
    args: argparse.Namespace,
    model: Sequence[str],
    build_detector: Callable[[argparse.Namespace], tuple[Detector, bool]],
) -> None:
    """Process the shards of this run. Shards whose result exists are skipped.

    Args:
        args: The options.
        model: The files and names that say which model is used.
        build_detector: Loads it; returns also whether several threads may call it.
    """
    from mmface.apis.detect.parquet import detect_shard
    from mmface.apis.detect.shards import find_shards

    others: list[Skipped] = []
    part, parts = args.shard
    shards = find_shards(args.inputs, part, parts, others)
    if others:
        print(f'{len(others)} files of the folders are in no shard: {count_reasons(others)}')
    settings = {'score_thr': args.score_thr, 'parquet': True, **size_settings(args)}
    results = Results(args.out, model, settings, MarkFaces(), overwrite=args.overwrite)
    targets = {shard: args.out / f'{shard.name}.parquet' for shard in shards}
    todo = [shard for shard in shards if not results.up_to_date([targets[shard]], shard.tar)]
    if len(todo) < len(shards):
        print(f'{args.out}: {len(shards) - len(todo)} of {len(shards)} shards existed already')
    if not todo:
        return
    detector, concurrent = build_detector(args)
    workers = args.workers if concurrent and args.workers > 1 else 0
    results.begin()
    problems = []
    failed = 0
    with progress_bar(todo, desc='shards', unit='shard') as bar:
        for shard in bar:
            try:
                report = detect_shard(shard, targets[shard], detector, workers)
            except ValueError as error:
                problems.append(one_line(error))
                continue
            failed += report.failed
            print(
                f'{targets[shard]}: {report.images} images, {report.faces} faces, '
                f'{report.failed} could not be used, {report.others} other members',
                flush=True,
            )
    for problem in problems:
        sys.stderr.write(f'error: {problem}\n')
    if not args.allow_skipped and (problems or failed):
        sys.exit(1)
