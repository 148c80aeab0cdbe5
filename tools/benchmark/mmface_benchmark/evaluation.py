# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Time the WIDER FACE evaluation against the usual Python port."""

from __future__ import annotations

import argparse
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmface.evaluation.wider_ap import evaluate_rows
from mmface.evaluation.wider_gt import read_ground_truth
from mmface.evaluation.wider_txt import read_predictions
from mmface_benchmark.baseline_wider_port import evaluate_port, read_port
from mmface_benchmark.timing import Comparison, compare

OURS = 'mmface'
PORT = 'usual Python port'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``benchmark.py eval``."""
    parser.add_argument('predictions', type=Path, help='folder (or .tar.gz) of WIDER FACE txt')
    parser.add_argument('--gt', type=Path, required=True, help='folder of the four .mat files')


def run(args: argparse.Namespace) -> list[Comparison]:
    """Time one evaluation of easy, medium and hard, both without and with reading the files.

    The files are the ground truth's ``.mat`` files and the detections' text files.
    """
    with _folder(args.predictions) as folder:
        gt = read_ground_truth(args.gt)
        rows = read_predictions(folder, gt).rows
        ordered = {
            name: table[(-table[:, 4]).argsort(kind='stable')] for name, table in rows.items()
        }

        def ours_with_files() -> dict[str, float]:
            truth = read_ground_truth(args.gt)
            return evaluate_rows(truth, read_predictions(folder, truth).rows).ap

        def port_with_files() -> dict[str, float]:
            return evaluate_port(read_ground_truth(args.gt), read_port(folder))

        ours = evaluate_rows(gt, rows).ap
        port = evaluate_port(gt, ordered)
        count = sum(map(len, rows.values()))
        notes: dict[str, float | str] = {
            f'AP {subset}': f'{ours[subset]:.9f}, port {port[subset]:.9f}' for subset in ours
        }
        task = f'WIDER FACE AP of {count} detections, processor time'
        return [
            compare(
                task,
                {OURS: lambda: evaluate_rows(gt, rows), PORT: lambda: evaluate_port(gt, ordered)},
                args.rounds,
                1,
                notes=notes,
                clock=time.process_time,
            ),
            compare(
                f'{task}, files read too',
                {OURS: ours_with_files, PORT: port_with_files},
                args.rounds,
                1,
                clock=time.process_time,
            ),
        ]


@contextmanager
def _folder(source: Path) -> Iterator[Path]:
    """Unpack an archive for the duration of the benchmark, because the port reads only folders."""
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(source) as archive:
            # Python before 3.11.4 has no filters.
            safe: dict[str, Any] = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}
            archive.extractall(place, **safe)
        (folder,) = Path(place).iterdir()
        yield folder
