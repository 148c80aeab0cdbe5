# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Evaluate WIDER FACE prediction files: AP on the easy, medium and hard sets."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from mmface.evaluation.pr_curve import plot_pr_curves
from mmface.evaluation.wider_ap import evaluate_rows
from mmface.evaluation.wider_gt import WiderGroundTruth, read_ground_truth
from mmface.evaluation.wider_match import PROTOCOLS, check_protocol
from mmface.evaluation.wider_result import WiderResult, format_table
from mmface.evaluation.wider_txt import read_predictions
from mmface.utils.cli import make_parser
from mmface.utils.files import write_text
from mmface.utils.image_names import read_part
from mmface.utils.progress import progress_bar


def display_names(sources: Sequence[Path]) -> list[str]:
    """Return a name for each source: its last path component, or its path if not unique."""
    short = [source.name.removesuffix('.gz').removesuffix('.tar') for source in sources]
    if len(set(short)) == len(short):
        return short
    return [str(source) for source in sources]


def evaluate_source(
    source: Path, gt: WiderGroundTruth, protocol: str, iou_thr: float, strict: bool
) -> WiderResult:
    """Evaluate one folder or archive.

    Raises:
        FileNotFoundError: There are no predictions, or with ``strict`` an image has no file.
        ValueError: A row cannot be read.
    """
    predictions = read_predictions(source, gt)
    result = evaluate_rows(gt, predictions.rows, protocol, iou_thr)
    result.extra = predictions.extra
    result.notes += predictions.notes
    if strict and result.missing:
        raise FileNotFoundError(
            f'{source}: {len(result.missing)} of {result.images} images have no file (first: '
            f'{result.missing[0]}.txt); add them, or omit --strict to count their faces as '
            'missed'
        )
    return result


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        f'{__doc__} Several prediction sets give a ranked table.',
        'python tools/evaluation/eval_widerface.py work_dirs/predictions '
        '--gt data/WIDERFace/val/gt --plot pr_curve.png',
    )
    parser.add_argument(
        'predictions',
        nargs='+',
        type=Path,
        metavar='PRED_DIR',
        help='folder (or .tar.gz of one) with <event>/<image>.txt',
    )
    parser.add_argument(
        '--gt', required=True, type=Path, help='folder of the four wider_*_val.mat files'
    )
    parser.add_argument(
        '--protocol',
        choices=PROTOCOLS,
        default='float',
        help='float: like the common Python evaluators; official: the int32 arithmetic of the '
        'MATLAB code (default: float)',
    )
    parser.add_argument(
        '--iou', type=float, default=0.5, help='minimum IoU of a hit, float protocol (default: 0.5)'
    )
    parser.add_argument(
        '--part', type=Path, metavar='LIST', help="evaluate only these ('event/name.jpg' lines)"
    )
    parser.add_argument(
        '--strict', action='store_true', help='fail if an image has no prediction file'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers here')
    parser.add_argument('--plot', type=Path, metavar='FILE', help='draw the PR curves here (PNG)')
    return parser.parse_args(argv)


def main() -> None:
    """Read the command line, evaluate, and print a table ranked by hard AP."""
    args = parse_args()

    check_protocol(args.protocol, args.iou)
    gt = read_ground_truth(args.gt)
    if args.part is not None:
        gt = gt.restrict(read_part(args.part))
    results: dict[str, WiderResult] = {}
    names = display_names(args.predictions)
    bar = progress_bar(args.predictions, unit='set', leave=False, show=len(names) > 1)
    for name, source in zip(names, bar, strict=True):
        results[name] = evaluate_source(source, gt, args.protocol, args.iou, args.strict)

    def rank(item: tuple[str, WiderResult]) -> float:
        hard = item[1].ap['hard']
        return math.inf if math.isnan(hard) else -hard

    results = dict(sorted(results.items(), key=rank))
    for name, result in results.items():
        for warning in result.warnings():
            print(f'warning: {name}: {warning}', file=sys.stderr)
    print(format_table(results))
    if args.json is not None:
        table = {name: result.to_dict() for name, result in results.items()}
        write_text(args.json, json.dumps(table, indent=2) + '\n')
    if args.plot is not None:
        plot_pr_curves(results, args.plot)
