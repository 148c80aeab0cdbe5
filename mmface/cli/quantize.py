# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Quantise an exported detector to 8-bit integers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmface.utils.cli import make_parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        "Quantise an ONNX detector with onnxruntime's static quantisation: int8 weights per "
        'channel, uint8 activations whose ranges come from images. Evaluate the result with '
        'tools/deploy/test_onnx.py before using it.',
        'python tools/deploy/quantize_onnx.py scrfd.onnx scrfd_int8.onnx --calibration images',
    )
    add = parser.add_argument
    add('model', type=Path, help='ONNX file in float32, e.g. of tools/deploy/export_onnx.py')
    add('out', type=Path, help='ONNX file to write')
    add(
        '--calibration',
        required=True,
        metavar='DIR',
        help='folder of images like those of the use; some dozens will do',
    )
    add('--max-images', type=int, default=100, help='images used (default %(default)s)')
    add(
        '--method',
        choices=('percentile', 'minmax', 'entropy'),
        default='percentile',
        help='how ranges are chosen (default %(default)s)',
    )
    add(
        '--keep-float',
        nargs='+',
        default=[],
        metavar='NAME',
        help='nodes whose names contain this stay float32, e.g. /module/cls_convs',
    )
    return parser.parse_args(argv)


def main() -> None:
    """Quantise one file."""
    args = parse_args()

    from mmface.deploy.quantize import quantize_onnx

    kept = quantize_onnx(
        args.model,
        args.out,
        args.calibration,
        args.max_images,
        args.method,
        args.keep_float,
        progress=True,
    )
    sizes = [path.stat().st_size / 2**20 for path in (args.model, args.out)]
    note = f', {len(kept)} nodes in float32' if kept else ''
    print(f'wrote {args.out}: {sizes[0]:.1f} -> {sizes[1]:.1f} MiB{note}')
