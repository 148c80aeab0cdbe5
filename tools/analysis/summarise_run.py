# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Sum up a training in the keys of the Ascend model zoo."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from mmface.cli.plot import read_scalars
from mmface.utils.cli import main_guard, make_parser
from mmface.utils.files import write_text

NOT_MEASURED = 'not measured'
SUBSETS = ('easy', 'medium', 'hard')


def read_json(path: Path, writer: str) -> dict[str, Any]:
    """Read a file that another tool wrote.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist; {writer} writes it')
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path}: expected JSON, {error}') from error


def summarise(
    network: str, train_dir: Path | None, seconds: float | None, eval_dir: Path | None
) -> dict[str, str]:
    """Collect what the runs left behind.

    Args:
        network: Name of the model.
        train_dir: Work dir of a training; None if there was only an evaluation.
        seconds: Duration of the training from the start of its processes to their end.
        eval_dir: Work dir of the evaluation; None if there was none.

    Returns:
        The keys of the summary in their order and the values as text.
    """
    values = dict.fromkeys(
        ('BatchSize', 'ActualFPS', 'TrainingTime', 'ActualLoss', 'TrainAccuracy'), NOT_MEASURED
    )
    ranks, case = 1, f'{network}_1p_eval'
    if train_dir is not None:
        measured = read_json(train_dir / 'throughput.json', "training's ThroughputHook")
        ranks, batch = measured['world_size'], measured['batch_size_per_card']
        case = f'{network}_bs{batch}_{ranks}p_{"perf" if eval_dir is None else "acc"}'
        values |= {
            'BatchSize': str(batch),
            'ActualFPS': f'{measured["images_per_second"]:.2f}',
            'TrainingTime': f'{measured["seconds_per_iteration"]:.4f}',
            'ActualLoss': f'{read_scalars(train_dir)[-1]["loss"]:.4f}',
        }
    if eval_dir is not None:
        found = read_json(eval_dir / 'metrics.json', 'tools/test.py --work-dir')
        if 'coco' in found:
            values['TrainAccuracy'] = f'{100 * found["coco"]["bbox_mAP"]:.2f}'
        else:
            # A subset without a face has no average precision.
            ap = [found['ap'][name] for name in SUBSETS]
            percent = ['nan' if share is None else f'{100 * share:.2f}' for share in ap]
            values['TrainAccuracy'] = f'[{", ".join(percent)}]'
    return {
        'Network': network,
        'RankSize': str(ranks),
        'BatchSize': values['BatchSize'],
        'DeviceType': platform.machine(),
        'CaseName': case,
        'ActualFPS': values['ActualFPS'],
        'TrainingTime': values['TrainingTime'],
        'ActualLoss': values['ActualLoss'],
        'TrainAccuracy': values['TrainAccuracy'],
        'E2ETrainingTime': NOT_MEASURED if seconds is None else f'{seconds:g}',
    }


def write_summary(summary: dict[str, str], folder: Path) -> Path:
    """Write the file of the case; one of an earlier run gets a number and stays.

    Returns:
        The path of the file.
    """
    path = folder / f'{summary["CaseName"]}.log'
    if path.exists():
        number = 1
        while (old := Path(f'{path}.{number}')).exists():
            number += 1
        path.rename(old)
    write_text(path, ''.join(f'{key} = {value}\n' for key, value in summary.items()))
    return path


def parse_args() -> argparse.Namespace:
    parser = make_parser(
        'Write the summary of a run in the form of the Ascend model zoo, <Network>_bs<batch per '
        'card>_<N>p_<acc|perf>.log with a line "Key = value" each: ActualFPS in images/s of all '
        'cards, TrainingTime in seconds per iteration, ActualLoss the last one logged, '
        'TrainAccuracy the AP on easy, medium and hard, or that of COCO, in percent, '
        'E2ETrainingTime in seconds.',
        'python tools/analysis/summarise_run.py --network scrfd_10g --train-dir work_dirs/run \\\n'
        '      --seconds 86400 --eval-dir work_dirs/run/eval --out-dir test/output/0',
    )
    add = parser.add_argument
    add('--network', required=True, help='name of the model')
    add('--train-dir', type=Path, metavar='DIR', help='--work-dir of the training')
    add('--seconds', type=float, help='duration of the training')
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
