# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Evaluate an ONNX file on WIDER FACE val with the runtime. Torch is not needed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mmface.deploy.runtime import FaceDetector
from mmface.deploy.runtime.detections import Detections
from mmface.deploy.runtime.face_detector import COMPATS
from mmface.evaluation.wider_ap import evaluate_rows
from mmface.evaluation.wider_gt import read_ground_truth
from mmface.evaluation.wider_match import PROTOCOLS, check_protocol
from mmface.evaluation.wider_result import format_val_ap
from mmface.evaluation.wider_txt import detection_rows, write_wider_txt
from mmface.utils.cli import make_parser
from mmface.utils.files import write_text
from mmface.utils.find_images import find_images
from mmface.utils.image_names import read_part
from mmface.utils.images import read_image
from mmface.utils.pipeline import ordered
from mmface.utils.progress import progress_bar
from mmface.utils.worker_options import add_worker_options, check_worker_options


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        __doc__ or '',
        'python tools/deploy/test_onnx.py scrfd_2.5g_bnkps.onnx --data-path data/WIDERFace',
    )
    add = parser.add_argument
    add(
        'model',
        type=Path,
        help='ONNX file, of this or another project, or a name in `mmface weights list`',
    )
    add('--data-path', type=Path, default=Path('data/WIDERFace'), help='WIDER FACE (%(default)s)')
    add('--part', type=Path, metavar='LIST', help="only these images ('event/name.jpg' lines)")
    add('--protocol', choices=PROTOCOLS, default='float', help='evaluation (default float)')
    add('--iou', type=float, default=0.5, help='minimum IoU of a hit, float protocol (default 0.5)')
    add(
        '--compat',
        choices=COMPATS,
        help='reproduce the boxes of that package: its letterbox and NMS, and no clipping '
        '(default: as tools/test.py)',
    )
    add('--size', type=int, nargs=2, metavar=('H', 'W'), help="input size (default: the file's)")
    add('--score-thr', type=float, help='lowest score (default: that of the published accuracy)')
    add_worker_options(parser)
    add('--save-txt', type=Path, metavar='DIR', help='write the faces as WIDER FACE txt files')
    add('--json', type=Path, metavar='FILE', help='write the numbers here')
    args = parser.parse_args(argv)
    check_protocol(args.protocol, args.iou)
    check_worker_options(parser, args)
    return args


def main() -> None:
    """Run the command."""
    args = parse_args()
    gt = read_ground_truth(args.data_path / 'val' / 'gt')
    if args.part is not None:
        gt = gt.restrict(read_part(args.part))
    images = find_images(args.data_path, gt.names)
    detector = FaceDetector(
        args.model,
        score_thr=args.score_thr,
        compat=args.compat,
        size=args.size,
        max_pixels=None,  # as tools/test.py tests the model
        threads=args.threads,
    )
    rows = {}
    dropped = 0

    def detect(path: Path) -> Detections:
        return detector.detect([read_image(path)])[0]

    found = ordered(images.values(), detect, args.workers if args.workers > 1 else 0)
    with closing(found), progress_bar(found, total=len(images), unit='image') as bar:
        for name, faces in zip(gt.names, bar, strict=True):
            rows[name], lost = detection_rows(faces.bboxes, faces.scores)
            dropped += lost
            if args.save_txt is not None:
                write_wider_txt(args.save_txt, name, rows[name])
    result = evaluate_rows(gt, rows, args.protocol, args.iou)
    result.dropped_rows = dropped
    for warning in result.warnings():
        print(f'warning: {warning}', file=sys.stderr)
    print(format_val_ap(result))
    if args.json is not None:
        write_text(args.json, json.dumps(result.to_dict(), indent=2) + '\n')
