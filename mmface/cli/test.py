# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Evaluate a checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmface.utils.cli import make_parser
from mmface.utils.config_files import config_path
from mmface.utils.quiet import import_mmdet_quietly

if TYPE_CHECKING:
    from mmengine.config import Config

TTA_KEYS = ('tta_model', 'tta_pipeline')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    from mmface.utils.cli import add_run_options

    parser = make_parser(
        "Evaluate a checkpoint: average precision on the easy, medium and hard faces, or COCO's.",
        'python tools/test.py configs/scrfd/scrfd_2.5g_bnkps.py scrfd_2.5g_bnkps.pth \\\n'
        '      --data-path data/WIDERFace --mode vga --save-txt out/txt',
    )
    add = parser.add_argument
    add('config', help='config file, or the name of a config, such as scrfd_500m_bnkps')
    add('checkpoint', help='checkpoint file')
    add('--work-dir', help='folder for log and metrics.json (default work_dirs/<config name>)')
    add(
        '--mode',
        metavar='vga|1650|origin|SIZE',
        help='image size: vga (fits in 640, padded to 640x640), 1650 (fits in 1100x1650), origin '
        '(unchanged), or another side instead of 640; default: the size in the config',
    )
    add(
        '--tta',
        nargs='?',
        const='',
        metavar='FILE',
        help='test-time augmentation (several sizes, flipped), defined by tta_model and '
        'tta_pipeline of the config, or of FILE such as configs/_base_/tta/face_tta.py',
    )
    add('--protocol', choices=('float', 'official'), help='WIDER FACE evaluation (default float)')
    add('--save-txt', metavar='DIR', help='write the detections as WIDER FACE txt files')
    add('--part', metavar='LIST', help="only the images in LIST ('event/name.jpg' lines)")
    add('--show-dir', metavar='DIR', help='write images with boxes, scores and keypoints')
    add('--show-thr', type=float, default=0.3, help='lowest score to draw (default 0.3)')
    add_run_options(parser)
    args = parser.parse_args(argv)
    if args.tta is not None and args.mode is not None:
        parser.error('--mode and --tta exclude each other: tta_pipeline has its own sizes')
    return args


def set_tta(cfg: Config, path: str, options: dict | None) -> None:
    """Test several views of each image, defined by the config or by the file ``path`` if given."""
    from mmengine.config import ConfigDict

    from mmface.apis import config as edit

    if path:
        own = {k: v for k, v in (options or {}).items() if k.startswith('tta_')}
        source = edit.load_config(path, own)
        cfg.update({key: source.get(key) for key in TTA_KEYS})
    missing = [key for key in TTA_KEYS if not cfg.get(key)]
    if missing:
        raise ValueError(
            f'--tta: {path or "the config"} has no {" and no ".join(missing)}; name a file that '
            'defines them: --tta configs/_base_/tta/face_tta.py'
        )
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:  # wrappers
        dataset = dataset.dataset
    dataset.pipeline = cfg.tta_pipeline


def build_config(args: argparse.Namespace) -> Config:
    """Build the config with the options applied."""
    from mmface.apis import config as edit

    cfg = edit.load_config(args.config, args.cfg_options)
    if args.tta is not None:
        set_tta(cfg, args.tta, args.cfg_options)
    edit.set_data_path(cfg, args.data_path)
    if args.mode is not None:
        edit.set_mode(cfg, args.mode)
    edit.set_part(cfg, args.part)
    cfg.work_dir = (
        args.work_dir or cfg.get('work_dir') or f'work_dirs/{config_path(args.config).stem}'
    )
    edit.set_metric(cfg, protocol=args.protocol, save_txt=args.save_txt)
    edit.set_out_dir(cfg, cfg.work_dir)
    cfg.launcher = args.launcher
    cfg.trust_checkpoint = args.trust_checkpoint
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show_dir is not None:
        # mmdet's hook would make a relative path relative to the log folder.
        cfg.default_hooks.visualization = {
            'type': 'DetVisualizationHook',
            'draw': True,
            'score_thr': args.show_thr,
            'test_out_dir': str(Path(args.show_dir).resolve()),
        }
    # Drop all settings of the training: they are not needed, in particular its data.
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        cfg[key] = None
    edit.set_no_validation(cfg)
    return cfg


def main() -> None:
    """Test."""
    args = parse_args()
    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'checkpoint {args.checkpoint} does not exist or is not a file')
    import_mmdet_quietly()
    from mmface.engine.dist import leave_distributed
    from mmface.engine.face_runner import FaceRunner
    from mmface.utils.allocator import keep_freed_memory
    from mmface.utils.device import use_device

    use_device(args.device)
    keep_freed_memory()
    cfg = build_config(args)
    runner = FaceRunner.from_cfg(cfg)
    runner.test()
    outputs = [m.outputs for m in runner.test_evaluator.metrics if hasattr(m, 'outputs')]
    files = [path.name for output in outputs for path in output.written]
    if files:  # by rank 0
        print(f'written to {cfg.work_dir}: {", ".join(files)}')
    problems = [problem for output in outputs for problem in output.problems]
    if problems:
        more = f' (and {len(problems) - 1} more)' if len(problems) > 1 else ''
        raise OSError(f'not everything was written: {problems[0]}{more}')
    leave_distributed()
