# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Test a range of checkpoints, several at the same time, and select the best."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmface.apis.sweep import (
    UNITS,
    Pool,
    check_link,
    describe_test,
    find_checkpoints,
    find_devices,
    link_best,
    only_one,
    read_result,
)
from mmface.cli import test
from mmface.evaluation.sweep_result import best_of, draw_curves, format_rows, write_table
from mmface.evaluation.wider_gt import SUBSETS
from mmface.utils.cli import main_guard, make_parser
from mmface.utils.progress import progress_bar
from mmface.utils.quiet import import_mmdet_quietly

TEST_TOOL = Path(__file__).resolve().parents[1] / 'test.py'
#: Options of tools/test.py that cannot be shared by all checkpoints, and what to use instead.
OWN_OPTIONS = {
    '--work-dir': 'each checkpoint has its own, WORK_DIR/sweep/<checkpoint>',
    '--device': 'use --devices',
    '--launcher': 'each test is one process',
    '--save-txt': 'test the best checkpoint with it afterwards',
    '--show-dir': 'test the best checkpoint with it afterwards',
}
SHOWN = 20  # maximum number of missing checkpoints to list


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    parser = make_parser(
        'Test a range of checkpoints (epoch_N.pth or iter_N.pth in WORK_DIR), several at the same\n'
        'time. Writes a table (sweep.csv), curves (sweep.png) and logs to WORK_DIR/sweep, and\n'
        'links the best as WORK_DIR/best.pth. Run it again to continue a stopped sweep: results\n'
        'of the same checkpoint file, config, data path and options are kept.\n\n'
        'All other options (--mode, --part, --protocol, --tta, --cfg-options, ...) are passed to\n'
        'tools/test.py; give them after CONFIG and WORK_DIR.',
        'python tools/evaluation/sweep_checkpoints.py configs/scrfd/scrfd_500m_bnkps.py '
        'work_dirs/scrfd_500m_bnkps \\\n      --start 400 --step 10 --devices 0,1 --mode vga',
    )
    parser.allow_abbrev = False  # otherwise --device would mean --devices
    add = parser.add_argument
    add('config', metavar='CONFIG', help='config file')
    add('work_dir', type=Path, metavar='WORK_DIR', help='folder of the checkpoints')
    add('--by', choices=tuple(UNITS), help='which checkpoints (default: epoch if there are any)')
    add('--start', type=int, help='first epoch or iteration (default: the first found)')
    add('--end', type=int, help='last epoch or iteration (default: the last found)')
    add('--step', type=int, help='test every STEP-th (default: all)')
    add(
        '--devices',
        default='auto',
        help='devices, with one test at a time on each: card numbers such as 0,1, or cpu,cpu for '
        'two processes (default: one, on the best device)',
    )
    add('--select', choices=SUBSETS, default='hard', help='AP that selects the best (default hard)')
    add('--data-path', help='folder of the data set (default: data_root of the config)')
    args, rest = parser.parse_known_args()
    for option, instead in OWN_OPTIONS.items():
        if any(word.partition('=')[0] == option for word in rest):
            parser.error(f'{option} cannot be given here: {instead}')
    if args.step is not None and args.step < 1:
        parser.error(f'--step must be 1 or more, not {args.step}')
    if args.data_path is not None:
        rest = ['--data-path', str(Path(args.data_path).expanduser().resolve()), *rest]
    return args, rest


def build_config(config: str, options: Sequence[str]) -> tuple[Config, str | None]:
    """Build the config that tools/test.py builds from ``options``, and return its --part too."""
    args = test.parse_args([config, '', '--work-dir', 'sweep', *options])
    import_mmdet_quietly()
    return test.build_config(args), args.part


def main() -> None:
    args, options = parse_args()
    checkpoints, missing, by = find_checkpoints(
        args.work_dir, args.by, args.start, args.end, args.step
    )
    check_link(args.work_dir / 'best.pth')
    digest = describe_test(*build_config(args.config, options))
    devices = find_devices(args.devices)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = args.work_dir / 'sweep'
    command = [sys.executable, str(TEST_TOOL), args.config]
    with only_one(folder):
        if missing:
            more = f' and {len(missing) - SHOWN} more' if len(missing) > SHOWN else ''
            print(f'missing, skipped: {", ".join(missing[:SHOWN])}{more}', file=sys.stderr)
        waiting = [item for item in checkpoints if not read_result(item, digest)]
        if len(waiting) < len(checkpoints):
            print(f'{len(checkpoints) - len(waiting)} of {len(checkpoints)} have a result already')
        bar = progress_bar(
            total=len(checkpoints),
            initial=len(checkpoints) - len(waiting),
            unit='test',
        )
        try:
            with bar, Pool(command, options, digest, devices) as pool:
                for item in pool.run(waiting):
                    values = ', '.join(f'{name} {item.ap[name]:.4f}' for name in item.ap)
                    bar.write(f'{item.name}: {values or "failed, " + item.note}')
                    bar.update()
        finally:
            write_table(folder / 'sweep.csv', checkpoints)
        best = best_of(checkpoints, args.select)
        print(format_rows(checkpoints, best))
        if best is None:
            raise ValueError(
                f'no checkpoint has an AP on the {args.select} faces; the logs are '
                f'{folder}/*/log.txt'
            )
        title = f'{args.work_dir.resolve().name}: AP on WIDER FACE'
        draw_curves(folder / 'sweep.png', checkpoints, best, UNITS[by], title)
        link_best(args.work_dir / 'best.pth', best.path)
        print(
            f'best on the {args.select} faces: {best.path}, linked as {args.work_dir}/best.pth\n'
            f'written: {folder}/sweep.csv, {folder}/sweep.png'
        )


if __name__ == '__main__':
    main_guard(main)
