# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Export a trained detector to ONNX."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmface.deploy.layouts import LAYOUTS, layout_names
from mmface.utils.cli import make_parser
from mmface.utils.quiet import import_mmdet_quietly

if TYPE_CHECKING:
    from mmface.deploy.export.check import Difference


def show(differences: Sequence[Difference]) -> None:
    """Print the difference of each output from torch."""
    for item in differences:
        print(f'{item.name}: largest difference to torch {item.largest:.2e}')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        'Export SCRFD or CenterFace to ONNX. The file contains its own specification: '
        'mmface.deploy.runtime.FaceDetector and the tools need no other file. CenterNet2 is '
        'exported to two files, OUT with _proposals and _rois in its name (--size, --opset 17).',
        'python tools/deploy/export_onnx.py configs/scrfd/scrfd_2.5g_bnkps.py \\\n'
        '      scrfd_2.5g_bnkps.pth scrfd.onnx --layout insightface --dynamic --check',
    )
    add = parser.add_argument
    add('config', help='config file, or the name of a config, such as scrfd_500m_bnkps')
    add('checkpoint', type=Path, help='checkpoint file')
    add('out', type=Path, help='ONNX file to write')
    add(
        '--layout',
        choices=layout_names(),
        default='raw',
        help='outputs (default %(default)s). '
        + '; '.join(f'{name}: {LAYOUTS[name].about}' for name in layout_names()),
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='input size (default: the size in the config)',
    )
    shape.add_argument('--dynamic', action='store_true', help='any batch, height and width')
    add('--batch', type=int, default=1, help='batch size of a static file (%(default)s)')
    add('--opset', type=int, choices=(11, 13, 17), default=11, help='ONNX opset (%(default)s)')
    add(
        '--fold-normalize',
        action='store_true',
        help='the graph subtracts the mean and divides by std: its input is 0 to 255',
    )
    add('--fp16', action='store_true', help='compute in half precision; inputs, outputs float32')
    add(
        '--check',
        nargs='*',
        metavar='IMAGE',
        help='compare with torch, on drawn images if none is named; a file that differs is not '
        'written',
    )
    add(
        '--trust-checkpoint',
        action='store_true',
        help='load any Python object in the checkpoint: it can run code',
    )
    return parser.parse_args(argv)


def main() -> None:
    """Export one file."""
    args = parse_args()

    import_mmdet_quietly()
    from mmface.apis.config import load_config
    from mmface.deploy.export.export import export_onnx, load_detector
    from mmface.deploy.export.options import ExportOptions
    from mmface.deploy.export.two_stage import export_two_stage

    options = ExportOptions(
        layout=args.layout,
        size=None if args.size is None else tuple(args.size),
        dynamic=args.dynamic,
        batch=args.batch,
        opset=args.opset,
        fold_normalize=args.fold_normalize,
        half=args.fp16,
    )
    cfg = load_config(args.config)
    model = load_detector(cfg, args.checkpoint, args.trust_checkpoint)
    if cfg.model.get('roi_head'):
        files, differences = export_two_stage(cfg, model, args.out, options, args.check)
        show(differences)
        print(f'wrote {files[0]} and {files[1]}; FaceDetector needs both in the same folder')
        return
    result = export_onnx(cfg, model, args.out, options, args.check)
    show(result.differences)
    for note in result.notes:
        print(f'note: {note}')
    size = 'any size' if args.dynamic else '{}x{} (height x width)'.format(*result.spec.size)
    print(
        f'wrote {args.out}: {result.spec.family}, layout {result.spec.layout}, {size}, opset '
        f'{args.opset}, {args.out.stat().st_size / 2**20:.1f} MiB'
    )
