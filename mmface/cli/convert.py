# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert weights of other projects to mmface checkpoints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmface.utils.cli import make_parser
from mmface.utils.config_files import config_path, model_configs
from mmface.utils.files import whole_file


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        'Convert published weights to an mmface checkpoint, CenterFace weights to a MindSpore '
        'checkpoint (DST ends in .ckpt), or CenterNet2 weights to the names that its authors use '
        '(--to detectron2). '
        'Reads insightface SCRFD (.pth, .onnx, ncnn .param with .bin), CenterFace of chenjun2hao '
        'and Ascend (.pth), Star-Clouds (.onnx) and MindSpore (.ckpt), MobileNetV2 of torchvision '
        '(.pth) and MindSpore (.ckpt), CenterNet2 of xingyizhou (.pth), ResNet of detectron2 '
        '(.pkl), torchvision and MMDetection (.pth), Res2Net and DLA-34 likewise, and of mmface. '
        'The model is recognised by its layers.',
        'python tools/weights/convert.py scrfd_2.5g_bnkps.onnx weights/scrfd_2.5g_bnkps.pth',
    )
    parser.add_argument(
        'source',
        type=Path,
        metavar='SRC',
        help='.pth, .pkl, .onnx, .ckpt or .param file, or a name in `mmface weights list`',
    )
    parser.add_argument(
        'target', type=Path, metavar='DST', help='checkpoint to write; .ckpt: for MindSpore'
    )
    parser.add_argument(
        '--config', help='config that the weights must fit, or its name (default: search for it)'
    )
    parser.add_argument(
        '--to',
        choices=['detectron2'],
        help='write the names that CenterNet2 for detectron2 loads (MODEL.WEIGHTS); .pth or .pkl',
    )
    parser.add_argument(
        '--calibrate',
        metavar='FOLDER',
        help='restore the statistics of batch norms that were folded, measured on the images in '
        'FOLDER; without it, a training measures them when it starts from the file',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle a .pth that holds more than tensors: this can run any code',
    )
    return parser.parse_args(argv)


def main() -> None:
    """Convert one file."""
    args = parse_args()
    config = None if args.config is None else config_path(args.config)
    to_ckpt = args.target.suffix.lower() == '.ckpt'
    if to_ckpt and args.to:
        raise ValueError(f'{args.target} would be a MindSpore checkpoint: name it .pth')

    from mmface.utils.quiet import import_mmdet_quietly

    import_mmdet_quietly()
    from mmface.apis.calibrate import calibrate
    from mmface.utils.checkpoint import SHOWN_KEYS, save_checkpoint_file
    from mmface.weights.centernet2 import to_detectron2
    from mmface.weights.convert import as_checkpoint, convert, to_mindspore
    from mmface.weights.detectron2_pickle import write_detectron2_pickle
    from mmface.weights.fetch import model_file
    from mmface.weights.folded_norms import folded_names
    from mmface.weights.mindspore_ckpt import write_mindspore_ckpt

    # Variants of a model (other schedules, precisions) have longer names than the model.
    known = sorted(model_configs(), key=lambda path: (len(path.name), path.name))
    source = model_file(args.source)
    result = convert(source, [config] if config else known, args.trust_checkpoint)

    notes = [result.note] if result.note else []
    state, images = result.state_dict, 0
    if args.calibrate:
        state, images = calibrate(state, result.config, args.calibrate)
        result = result._replace(state_dict=state)
        measured = f'the statistics of its folded batch norms were measured on {images} images'
        notes.append(measured if images else 'no batch norm is folded: --calibrate changes nothing')
    folded = folded_names(state)
    if folded:
        notes.append(
            f'{len(folded)} batch norms are folded: a training from this file first measures their '
            'statistics, or write them into it with --calibrate FOLDER'
        )
    if to_ckpt:
        tensors, note = to_mindspore(result)
        notes = [note] if note else []
        with whole_file(args.target) as tmp:
            write_mindspore_ckpt(tmp, tensors)
        written = f'{len(tensors)} tensors, MindSpore'
    elif args.to:
        theirs = to_detectron2(state)
        if args.target.suffix.lower() == '.pkl':
            write_detectron2_pickle(args.target, theirs)
        else:
            save_checkpoint_file(args.target, dict(model=theirs, __author__='mmface'))
        written, notes = f'{len(theirs)} tensors, names of detectron2', []
    else:
        checkpoint = as_checkpoint(result, source)
        if images:
            checkpoint['meta']['calibration_images'] = images
        save_checkpoint_file(args.target, checkpoint)
        written = f'{len(state)} tensors'
    print(f'{source}: {result.source}; fits {result.config.stem}')
    for key in result.dropped[:SHOWN_KEYS]:
        print(f'skipped {key}: not part of the model')
    if len(result.dropped) > SHOWN_KEYS:
        print(f'skipped {len(result.dropped) - SHOWN_KEYS} more')
    for note in notes:
        print(f'note: {note}')
    print(f'wrote {args.target} ({written})')
