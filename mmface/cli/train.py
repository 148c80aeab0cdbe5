# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Train a detector."""

from __future__ import annotations

import argparse
import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmface.utils.cli import make_parser
from mmface.utils.config_files import config_path
from mmface.utils.extras import optional_imports
from mmface.utils.quiet import import_mmdet_quietly
from mmface.utils.stop_signals import catch_stop_signals

if TYPE_CHECKING:
    from mmengine.config import Config

# Lengths of the performance runs in the Ascend model zoo: SCRFD, CenterNet2.
PERF_EPOCHS, PERF_ITERS = 3, 401
#: Config options that set the length.
LENGTHS = {'max_epochs', 'max_iters', 'train_cfg.max_epochs', 'train_cfg.max_iters'}
PRECISIONS = {
    'fp32': '_base_/precision/fp32.py',
    'o1': '_base_/precision/amp_o1.py',
    'o2': '_base_/precision/amp_o2.py',
}
#: Backends of the visualizer by the packages that they need.
LOGGERS = {'tensorboard': 'TensorboardVisBackend', 'wandb': 'WandbVisBackend'}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    from mmface.utils.cli import add_run_options

    parser = make_parser(
        'Train a detector.',
        'python tools/train.py configs/scrfd/scrfd_500m_bnkps.py --data-path data/WIDERFace',
    )
    add = parser.add_argument
    add('config', help='config file, or the name of a config, such as scrfd_500m_bnkps')
    add('--work-dir', help='folder for logs and checkpoints (default work_dirs/<config name>)')
    add(
        '--resume',
        '--resume-from',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume a run from CHECKPOINT, or from the last one in the work dir',
    )
    add('--load-from', metavar='CHECKPOINT', help='weights to start from')
    add(
        '--allow-partial',
        action='store_true',
        help='take weights of --load-from that fit only a part of the backbone or of a head',
    )
    add(
        '--precision',
        choices=tuple(PRECISIONS),
        help='fp32, o1 (autocast; bfloat16 on the CPU) or o2 (half-precision weights with float32 '
        'master weights); default: the precision in the config',
    )
    add('--amp', dest='precision', action='store_const', const='o1', help='same as --precision o1')
    add('--seed', type=int, help='seed of all random numbers (default: random and logged)')
    add('--no-validate', action='store_true', help='no validation during training')
    add(
        '--num-epochs',
        type=int,
        metavar='N',
        help='length (default: that of the config); warm-up, milestones and the interval of the '
        'validation scale with it',
    )
    add(
        '--lr-step',
        '--lr_step',
        metavar='N,N',
        help='when the learning rate drops, in epochs, or in iterations if the config counts them',
    )
    add('--lr', type=float, help='learning rate (default: that of the config, or of the run)')
    add(
        '--image-size',
        type=int,
        metavar='N',
        help='side of the images for training and validation, a multiple of 32',
    )
    add(
        '--reset-schedule',
        action='store_true',
        help='with --resume: take learning rate, schedulers and weight decay from the config',
    )
    add(
        '--perf',
        action='store_true',
        help=f'no validation; without --num-epochs, {PERF_EPOCHS} epochs, or {PERF_ITERS} '
        'iterations if the schedule counts iterations',
    )
    add(
        '--max-minutes',
        type=float,
        metavar='N',
        help='save and exit with status 75 after N minutes (also on SIGTERM and SIGUSR1); '
        'continue with --resume',
    )
    add(
        '--log',
        nargs='+',
        choices=tuple(LOGGERS),
        default=[],
        help='also log to TensorBoard or Weights & Biases (pip install "mmface[log]")',
    )
    add(
        '--pretrained',
        metavar='FILE',
        help='start from a file that tools/weights/convert.py can read: a backbone '
        '(mobilenet_v2-b0353104.pth, R-50.pkl) or a whole detector. Without it, such a backbone is '
        'looked for in the data folder',
    )
    add(
        '--from-scratch',
        action='store_true',
        help='train all of the backbone, from random weights; otherwise a config that freezes a '
        'part of it needs weights',
    )
    add('--deterministic', action='store_true', help='deterministic algorithms; slower')
    add('--master-addr', '--master_addr', help='host of rank 0, for --launcher pytorch')
    add('--master-port', '--master_port', help='port of rank 0, for --launcher pytorch')
    add('--auto-scale-lr', action='store_true', help='scale lr with the total batch size')
    add_run_options(parser)
    args = parser.parse_args(argv)
    if args.seed is not None and args.seed < 0:
        parser.error(f'--seed must be 0 or more, not {args.seed}')
    if args.num_epochs is not None and args.num_epochs < 1:
        parser.error(f'--num-epochs must be 1 or more, not {args.num_epochs}')
    if args.lr is not None and not args.lr > 0:
        parser.error(f'--lr must be above 0, not {args.lr}')
    if args.max_minutes is not None and not args.max_minutes > 0:
        parser.error(f'--max-minutes must be above 0, not {args.max_minutes}')
    if args.resume not in (None, 'auto') and args.load_from:
        parser.error('--resume CHECKPOINT and --load-from exclude each other')
    if args.pretrained and args.load_from:
        parser.error('--pretrained and --load-from exclude each other')
    if args.pretrained and args.from_scratch:
        parser.error('--pretrained and --from-scratch exclude each other')
    if args.pretrained and args.resume not in (None, 'auto'):
        parser.error('--resume CHECKPOINT and --pretrained exclude each other')
    if args.lr_step is not None and not re.fullmatch(r'\d+([, ]\d+)*', args.lr_step):
        parser.error(f'--lr-step must be numbers with commas between, not {args.lr_step!r}')
    return args


def build_config(args: argparse.Namespace) -> Config:
    """Build the config with the options applied."""
    from mmface.apis import config as edit
    from mmface.apis.image_size import set_image_size

    named = args.resume not in (None, 'auto') and '://' not in args.resume
    if named and not Path(args.resume).expanduser().is_file():
        raise FileNotFoundError(f'checkpoint {args.resume} does not exist or is not a file')
    cfg = edit.load_config(args.config, args.cfg_options, check=False)
    if args.precision is not None:
        edit.set_precision(cfg, config_path(PRECISIONS[args.precision]))
        cfg.merge_from_dict(args.cfg_options or {})
    edit.report_options(cfg, args.config, args.cfg_options)
    edit.set_data_path(cfg, args.data_path)
    cfg.work_dir = (
        args.work_dir or cfg.get('work_dir') or f'work_dirs/{config_path(args.config).stem}'
    )
    cfg.launcher = args.launcher
    cfg.trust_checkpoint = args.trust_checkpoint
    if args.seed is not None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': args.seed}
    if args.deterministic:
        cfg.randomness = {**cfg.get('randomness', {}), 'deterministic': True}
    if args.image_size is not None:
        set_image_size(cfg, args.image_size)
    if args.lr is not None:
        edit.set_lr(cfg, args.lr)
    if args.num_epochs is not None:
        edit.set_length(cfg, args.num_epochs)
    elif args.perf and not LENGTHS & set(args.cfg_options or {}):
        edit.cut_length(cfg, PERF_EPOCHS, PERF_ITERS)
    if args.lr_step is not None:
        if 'num_epochs' in cfg.train_cfg:
            raise ValueError(
                '--lr-step: this config counts iterations, and --num-epochs scales its milestones; '
                'give the length with --cfg-options train_cfg.max_iters=N instead'
            )
        edit.set_milestones(cfg, [int(step) for step in re.split('[, ]', args.lr_step)])
    # These override all of the above, except an explicit length.
    lengths = ('train_cfg.max_epochs', 'train_cfg.max_iters') if args.num_epochs else ()
    options = args.cfg_options or {}
    cfg.merge_from_dict({key: options[key] for key in options if key not in lengths})
    cfg.reset_schedule = args.reset_schedule
    if args.no_validate or args.perf:
        edit.set_no_validation(cfg)
    for package in args.log:
        with optional_imports():
            importlib.import_module(package)
        edit.add_log(cfg, LOGGERS[package])
    if args.max_minutes is not None:
        hook = dict(type='PreemptionHook', max_minutes=args.max_minutes)
        cfg.merge_from_dict({'default_hooks.preemption': hook})
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ValueError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        cfg.auto_scale_lr.enable = True
    cfg.load_from = args.load_from or cfg.get('load_from')
    cfg.allow_partial = args.allow_partial or cfg.get('allow_partial', False)
    if args.resume is not None:
        # The first start with --resume loads the weights of --load-from, later ones resume.
        cfg.resume = 'auto' if args.resume == 'auto' else True
        cfg.load_from = cfg.load_from if args.resume == 'auto' else args.resume
    return cfg


def set_weights(cfg: Config, args: argparse.Namespace) -> list[str]:
    """Choose the weights to start from. Return what to tell the user about them."""
    from mmface.apis.pretrained import (
        check_frozen,
        describe_start,
        find_pretrained,
        set_pretrained,
        unfreeze,
    )

    notes = []
    if args.from_scratch:
        unfreeze(cfg)
    else:
        source = Path(args.pretrained) if args.pretrained else find_pretrained(cfg)
        if source is not None:
            notes.append(set_pretrained(cfg, source, args.trust_checkpoint))
        check_frozen(cfg)
        notes += filter(None, [describe_start(cfg)])
    return notes


def describe_run(cfg: Config, name: str, world_size: int) -> str:
    """Return one line: network, config, precision, cards, batch size and learning rate."""
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    precision = {'O2OptimWrapper': 'o2', 'AutocastOptimWrapper': 'o1', 'OptimWrapper': 'fp32'}
    scale = f', loss scale {wrapper.loss_scale:g}' if _is_number(wrapper.get('loss_scale')) else ''
    return (
        f'network {cfg.model.type}, config {name}, precision {precision.get(kind, kind)}{scale}, '
        f'{world_size} card(s), batch {cfg.train_dataloader.batch_size} per card, '
        f'lr {wrapper.optimizer.get("lr")}'
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def main() -> None:
    """Train."""
    args = parse_args()
    catch_stop_signals()
    import_mmdet_quietly()
    from mmface.engine.dist import leave_distributed
    from mmface.engine.face_runner import FaceRunner
    from mmface.utils.allocator import keep_freed_memory
    from mmface.utils.device import use_device

    device = use_device(args.device)
    keep_freed_memory()
    for key, value in (('MASTER_ADDR', args.master_addr), ('MASTER_PORT', args.master_port)):
        if value:
            os.environ[key] = value
    cfg = build_config(args)
    notes = set_weights(cfg, args)
    runner = FaceRunner.from_cfg(cfg)
    for note in [describe_run(cfg, args.config, runner.world_size), *notes]:
        runner.logger.info(note)
    runner.logger.info(
        f'{args.config}: device {device} x {runner.world_size}, seed {runner.seed}; work dir '
        f'{cfg.work_dir}, full config and environment in its folder {runner.timestamp}/'
    )
    runner.train()
    leave_distributed()
