# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Evaluate WIDER FACE prediction files: AP on the easy, medium and hard sets."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmface.evaluation.matched import Matched
from mmface.evaluation.plausibility import check_plausible, suspicions
from mmface.evaluation.pr_curve import plot_pr_curves
from mmface.evaluation.prediction_files import FORMATS, match_predictions, open_predictions
from mmface.evaluation.prediction_source import PredictionSource
from mmface.evaluation.wider_ap import evaluate_matched
from mmface.evaluation.wider_gt import WiderGroundTruth, read_ground_truth
from mmface.evaluation.wider_match import PROTOCOLS, check_protocol
from mmface.evaluation.wider_result import WiderResult, format_table
from mmface.utils.cli import make_parser
from mmface.utils.files import write_text
from mmface.utils.image_names import read_part


def display_names(sources: Sequence[Path]) -> list[str]:
    """Return a name for each source: its last path component, or its path if not unique."""
    short = [source.name.removesuffix('.gz').removesuffix('.tar') for source in sources]
    if len(set(short)) == len(short):
        return short
    return [str(source) for source in sources]


def evaluate_source(
    source: PredictionSource, name: str, gt: WiderGroundTruth, args: argparse.Namespace
) -> tuple[WiderResult, Matched]:
    """Evaluate one folder, archive or file.

    Raises:
        FileNotFoundError: There are no predictions, or with ``--strict`` an image has no entry.
        ValueError: An entry cannot be read, or the predictions are not plausible.
    """
    keep_boxes = args.report is not None
    matched, sample = match_predictions(source, gt, args.protocol, args.iou, keep_boxes)
    result = evaluate_matched(matched)
    if args.strict and result.missing:
        raise FileNotFoundError(
            f'{source.path}: {len(result.missing)} of {result.images} images have no file (first: '
            f'{result.missing[0]}.txt); add them, or omit --strict to count their faces as '
            'missed'
        )
    result.notes += source.notes
    best = np.nanmax([0.0, *result.ap.values()])
    if args.force:
        result.notes += suspicions(matched, sample)
    else:
        result.notes += check_plausible(matched, sample, float(best), str(source.path))
    return result, matched


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
        metavar='PRED',
        help=FORMATS,
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
    parser.add_argument(
        '--image-ids',
        type=Path,
        metavar='FILE',
        help='COCO file that names the image of each number in COCO results',
    )
    parser.add_argument(
        '--force', action='store_true', help='evaluate predictions that are not plausible too'
    )
    parser.add_argument(
        '--report', type=Path, metavar='DIR', help='write a report for the browser to this folder'
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
    for name, path in zip(names, args.predictions, strict=True):
        source = open_predictions(path, gt, show=True, image_ids=args.image_ids)
        results[name], _ = evaluate_source(source, name, gt, args)

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
