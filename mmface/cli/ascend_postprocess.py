# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read the results of ais_bench, write WIDER FACE txt files and print the average precision."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mmface.deploy.ascend.manifest import read_manifest
from mmface.deploy.ascend.result_bins import check_results, read_results
from mmface.deploy.runtime import decode
from mmface.evaluation.wider_ap import evaluate_rows
from mmface.evaluation.wider_gt import read_ground_truth
from mmface.evaluation.wider_match import PROTOCOLS, check_protocol
from mmface.evaluation.wider_result import format_val_ap
from mmface.evaluation.wider_txt import detection_rows, write_wider_txt
from mmface.utils.cli import make_parser
from mmface.utils.image_names import read_part
from mmface.utils.progress import progress_bar


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        f'{__doc__} Results are matched to images by name, never by order.',
        'python tools/deploy/ascend_postprocess.py result/dumpout_bs1 bins/manifest.json '
        '--out txt --gt data/WIDERFace/val/gt',
    )
    add = parser.add_argument
    add('results', type=Path, help='folder of <stem>_<i>.bin, <output>/<output_dirname>')
    add('manifest', type=Path, help='manifest.json of the bins')
    add('--out', required=True, type=Path, metavar='DIR', help='folder for <event>/<stem>.txt')
    add('--gt', type=Path, help='folder of the four wider_*_val.mat files')
    add('--part', type=Path, metavar='LIST', help="evaluate only these ('event/name.jpg' lines)")
    add('--protocol', choices=PROTOCOLS, default='float', help='evaluation (default float)')
    add('--iou', type=float, default=0.5, help='minimum IoU of a hit; the recipe used 0.4')
    args = parser.parse_args(argv)
    check_protocol(args.protocol, args.iou)
    return args


def main() -> None:
    """Run the command."""
    args = parse_args()
    manifest = read_manifest(args.manifest)
    gt = None if args.gt is None else read_ground_truth(args.gt)
    if gt is not None and args.part is not None:
        gt = gt.restrict(read_part(args.part))
    check_results(args.results, manifest)
    rows: dict[str, NDArray[np.float64]] = {}
    dropped = 0
    with progress_bar(manifest.images, unit='image') as bar:
        for image in bar:
            outputs, placement = read_results(args.results, image, manifest)
            (found,) = decode(outputs, manifest.spec, [placement])
            # The last folder is the event, as in the txt files of the benchmark.
            name = '/'.join([*PurePosixPath(image.file).parent.parts[-1:], image.stem])
            rows[name], lost = detection_rows(found.bboxes, found.scores)
            dropped += lost
            write_wider_txt(args.out, name, rows[name])
    print(f'{sum(map(len, rows.values()))} faces of {len(rows)} images in {args.out}')
    if dropped:
        print(
            f'warning: {dropped} faces with NaN or infinite numbers skipped: float16 overflow? '
            'Build the OM with another --precision',
            file=sys.stderr,
        )
    if gt is not None:
        result = evaluate_rows(gt, rows, args.protocol, args.iou)
        for warning in result.warnings():
            print(f'warning: {warning}', file=sys.stderr)
        print(format_val_ap(result))
