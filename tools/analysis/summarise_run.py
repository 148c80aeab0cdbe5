# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Summarise a training run with the keys of the Ascend model zoo."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmface.apis.run_summary import summarise, write_summary
from mmface.utils.cli import main_guard, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(
        'Write the summary of a run in the format of the Ascend model zoo, to the file '
        '<Network>_bs<batch per card>_<N>p_<acc|perf>.log with lines "Key = value". ActualFPS is '
        'in images/s of all cards, TrainingTime in seconds per iteration, ActualLoss is the last '
        'logged loss, TrainAccuracy the AP on easy, medium and hard (or that of COCO) in percent, '
        'and E2ETrainingTime is in seconds.',
        'python tools/analysis/summarise_run.py --network scrfd_10g --train-dir work_dirs/run \\\n'
        '      --seconds 86400 --eval-dir work_dirs/run/eval --out-dir test/output/0',
    )
    add = parser.add_argument
    add('--network', required=True, help='name of the model')
    add('--train-dir', type=Path, metavar='DIR', help='--work-dir of the training')
    add('--seconds', type=float, help='duration of the training in seconds')
    add('--eval-dir', type=Path, metavar='DIR', help='--work-dir of the evaluation')
    add('--out-dir', type=Path, required=True, metavar='DIR', help='folder for the summary')
    args = parser.parse_args()
    if args.train_dir is None and args.eval_dir is None:
        parser.error('expected --train-dir, --eval-dir or both')
    return args


def main() -> None:
    args = parse_args()
    summary = summarise(args.network, args.train_dir, args.seconds, args.eval_dir)
    path = write_summary(summary, args.out_dir)
    print('------------------ Final result ------------------')
    print(f'Final Performance images/sec : {summary["ActualFPS"]}')
    print(f'Final Train Accuracy : {summary["TrainAccuracy"]}')
    print(f'E2E Training Duration sec : {summary["E2ETrainingTime"]}')
    print(f'written: {path}')


if __name__ == '__main__':
    main_guard(main)
