# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Evaluate WIDER FACE prediction files: AP on the easy, medium and hard sets."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from mmface.evaluation.attributes import read_attributes
from mmface.evaluation.bootstrap import Interval, ap_of_draws, draw_weights, interval
from mmface.evaluation.matched import Matched
from mmface.evaluation.paper import FORMS, check_curves_path, paper_table, write_curves
from mmface.evaluation.plausibility import check_plausible, suspicions
from mmface.evaluation.pr_curve import plot_pr_curves
from mmface.evaluation.prediction_files import FORMATS, match_predictions, open_predictions
from mmface.evaluation.prediction_source import Category, PredictionSource
from mmface.evaluation.thresholds import operate
from mmface.evaluation.wider_ap import evaluate_matched
from mmface.evaluation.wider_gt import WiderGroundTruth, is_wider, read_ground_truth
from mmface.evaluation.wider_match import PROTOCOLS, check_protocol
from mmface.evaluation.wider_result import WiderResult, format_table
from mmface.utils.cli import make_parser
from mmface.utils.files import inside, write_text
from mmface.utils.image_names import read_part
from mmface.utils.quiet import import_mmdet_quietly

TITLE = 'WIDER FACE'


def display_names(sources: Sequence[Path]) -> list[str]:
    """Return a name for each source: its last path component, or its path if not unique."""
    short = [source.name.removesuffix('.gz').removesuffix('.tar') for source in sources]
    if len(set(short)) == len(short):
        return short
    return [str(source) for source in sources]


def evaluate_source(
    source: PredictionSource, gt: WiderGroundTruth, args: argparse.Namespace
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
        '--gt data/WIDERFace/val/gt --plot pr_curve.png\n'
        '  python tools/evaluation/eval_widerface.py a b.json --gt GT --images DIR --report out',
    )
    parser.add_argument(
        'predictions',
        nargs='+',
        type=Path,
        metavar='PRED',
        help=FORMATS,
    )
    parser.add_argument(
        '--gt',
        required=True,
        type=Path,
        help='folder of the four wider_*_val.mat files, or own labels in any format of '
        '`mmface labels`',
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
    parser.add_argument(
        '--images',
        type=Path,
        metavar='DIR',
        help='folder with <event>/<image>.jpg, for the galleries of the report',
    )
    parser.add_argument(
        '--copy-images',
        action='store_true',
        help='copy the images that the report shows into it (default: link to them)',
    )
    parser.add_argument('--title', default=TITLE, help='title of the report and the figure')
    parser.add_argument(
        '--draws', type=int, default=1000, help='bootstrap draws for intervals (default: 1000)'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers here')
    parser.add_argument(
        '--plot', type=Path, metavar='FILE', help='draw the PR curves here (.png, .pdf or .svg)'
    )
    parser.add_argument(
        '--table', choices=FORMS, help='print a table with 95 %% intervals in this form instead'
    )
    parser.add_argument(
        '--curves',
        type=Path,
        metavar='FILE',
        help='write precision, recall and thresholds here (.json or .csv)',
    )
    return parser.parse_args(argv)


def rank(item: tuple[str, WiderResult]) -> float:
    """Return the key that sorts results by the AP of the largest subset, NaN last."""
    ap = list(item[1].ap.values())[-1]
    return math.inf if math.isnan(ap) else -ap


def main() -> None:
    """Read the command line, evaluate, and print a ranked table."""
    args = parse_args()

    check_protocol(args.protocol, args.iou)
    if args.curves is not None:
        check_curves_path(args.curves)
    if args.draws < 1:
        raise ValueError(f'expected at least one bootstrap draw, found {args.draws}')
    results: dict[str, WiderResult] = {}
    matched: dict[str, Matched] = {}
    for category, gt in read_truths(args):
        found = evaluate_all(category, gt, args)
        new = dict(sorted(((name, own) for name, (own, _) in found.items()), key=rank))
        results |= new
        matched |= {name: found[name][1] for name in new}
        if args.report is not None:
            report(gt, {name: matched[name] for name in new}, new, args, category)

    for name, result in results.items():
        for warning in result.warnings():
            print(f'warning: {name}: {warning}', file=sys.stderr)
    if args.table is None:
        print(format_table(results))
        for name, result in results.items():
            if line := result.nme_line():
                print(f'{name}: {line}')
    else:
        print(paper_table(find_intervals(results, matched, args.draws), args.table))
    if args.json is not None:
        table = {name: result.to_dict() for name, result in results.items()}
        write_text(args.json, json.dumps(table, indent=2) + '\n')
    if args.plot is not None:
        plot_pr_curves(results, args.plot, args.title)
    if args.curves is not None:
        curves = {
            name: {s: operate(own, keep) for s, keep in own.gt.keep.items()}
            for name, own in matched.items()
        }
        write_curves(args.curves, curves)


def read_truths(
    args: argparse.Namespace,
) -> list[tuple[Category | None, WiderGroundTruth]]:
    """Read the ground truth of WIDER FACE, or that of each class of own labels."""
    if is_wider(args.gt):
        truths: list[tuple[Category | None, WiderGroundTruth]]
        truths = [(None, read_ground_truth(args.gt))]
    else:
        # Imports the mm packages if they are there, which takes seconds; it does not need them.
        with suppress(ModuleNotFoundError):
            import_mmdet_quietly()
        from mmface.apis.own_truth import read_own_truth

        if args.protocol != 'float':
            raise ValueError(
                f'expected the official ground truth of WIDER FACE for the protocol '
                f'{args.protocol}, found {args.gt}; own labels take the protocol float'
            )
        truths = read_own_truth(args.gt, args.images)
        args.title = args.gt.stem if args.title == TITLE else args.title
        if args.image_ids is None and args.gt.suffix.lower() == '.json':
            args.image_ids = args.gt
    if args.part is None:
        return truths
    part = read_part(args.part)
    return [(category, gt.restrict(part)) for category, gt in truths]


def evaluate_all(
    category: Category | None, gt: WiderGroundTruth, args: argparse.Namespace
) -> dict[str, tuple[WiderResult, Matched]]:
    """Evaluate all predictions, of one class if there are several."""
    found = {}
    for name, path in zip(display_names(args.predictions), args.predictions, strict=True):
        ids = args.image_ids
        source = open_predictions(path, gt, show=True, image_ids=ids, category=category)
        key = name if category is None else f'{name}, {category.name}'
        found[key] = evaluate_source(source, gt, args)
    return found


def find_intervals(
    results: Mapping[str, WiderResult], matched: Mapping[str, Matched], draws: int
) -> dict[str, dict[str, Interval]]:
    """Return the AP of each detector and subset with its 95 % interval."""
    aps = {}
    for name, own in matched.items():
        subsets = own.gt.subsets
        drawn = ap_of_draws(own, subsets, draw_weights(len(own.gt.names), draws))
        aps[name] = {s: interval(results[name].ap[s], drawn[s]) for s in subsets}
    return aps


def report(
    gt: WiderGroundTruth,
    matched: Mapping[str, Matched],
    results: Mapping[str, WiderResult],
    args: argparse.Namespace,
    category: Category | None,
) -> None:
    """Write the report; of several classes, each to its own folder."""
    # Imported here, because OpenCV takes as long as an evaluation.
    from mmface.evaluation.report.study import study
    from mmface.evaluation.report.writer import write_report

    attributes = read_attributes(args.gt, gt) if is_wider(args.gt) else {}
    folder, title = args.report, args.title
    if category is not None:
        folder, title = inside(folder, category.name), f'{title}: {category.name}'
    found = study(gt, matched, results, attributes, args.draws)
    write_report(found, folder, args.images, args.copy_images, title)
    # Not on standard output, which has the table alone.
    print(f'report: {folder / "index.html"}', file=sys.stderr)
