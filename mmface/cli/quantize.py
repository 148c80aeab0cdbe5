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
        'channel, and uint8 activations with ranges measured on images. The file gets a third of '
        'the size. It is faster only on processors that multiply 8-bit integers (VNNI, AMX, dot '
        'product of ARM), so the tool measures it on this one. Evaluate the result with '
        'tools/deploy/test_onnx.py before using it.',
        'python tools/deploy/quantize_onnx.py scrfd.onnx scrfd_int8.onnx --calibration images',
    )
    add = parser.add_argument
    add('model', type=Path, help='float32 ONNX file, e.g. from tools/deploy/export_onnx.py')
    add('out', type=Path, help='ONNX file to write')
    add(
        '--calibration',
        required=True,
        metavar='DIR',
        help='folder of images similar to those in use; a few dozen are enough',
    )
    add('--max-images', type=int, default=100, help='number of images (default %(default)s)')
    add(
        '--method',
        choices=('percentile', 'minmax', 'entropy'),
        default='percentile',
        help='how ranges are computed (default %(default)s)',
    )
    add(
        '--keep-float',
        nargs='+',
        default=[],
        metavar='NAME',
        help='nodes whose names contain this text stay float32, e.g. /module/cls_convs',
    )
    add(
        '--quantize-edges',
        action='store_true',
        help='also quantise the first and the last convolutions, which costs accuracy',
    )
    return parser.parse_args(argv)


def main() -> None:
    """Quantise one file."""
    args = parse_args()

    from mmface.deploy.quantize import int8_instructions, quantize_onnx, time_ratio
    from mmface.weights.fetch import model_file

    kept = quantize_onnx(
        args.model,
        args.out,
        args.calibration,
        args.max_images,
        args.method,
        args.keep_float,
        progress=True,
        keep_edges=not args.quantize_edges,
    )
    sizes = [model_file(path).stat().st_size / 2**20 for path in (args.model, args.out)]
    note = f', {len(kept)} nodes in float32' if kept else ''
    print(f'wrote {args.out}: {sizes[0]:.1f} -> {sizes[1]:.1f} MiB{note}')
    found = ', '.join(int8_instructions()) or 'no instructions for int8'
    ratio = time_ratio(args.model, args.out)
    print(f'on this CPU ({found}), it takes {ratio:.2f}x the time of the float32 file')
