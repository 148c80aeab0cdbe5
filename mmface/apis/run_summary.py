# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read the files of a training run and summarise them with the keys of the Ascend model zoo."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmface.evaluation.wider_gt import SUBSETS
from mmface.utils.files import write_text

NOT_MEASURED = 'not measured'
NOT_LOGGED = 'not logged: the run was shorter than its log interval (default_hooks.logger.interval)'


def read_scalars(work_dir: Path) -> list[dict[str, float]]:
    """Read what the training of a run and its resumed runs logged, in order of iterations.

    Raises:
        FileNotFoundError: The folder has no training log.
        ValueError: A line of a log cannot be read.
    """
    entries = _losses(work_dir)
    if not entries:
        raise FileNotFoundError(
            f'no training log in {work_dir}: expected {work_dir}/<time>/vis_data/scalars.json, '
            'as tools/train.py --work-dir writes it. A run that is shorter than its log interval '
            '(default_hooks.logger.interval) logs no loss'
        )
    return entries


def _losses(work_dir: Path) -> list[dict[str, float]]:
    # A resumed run logs the iterations after its checkpoint again.
    by_step = {int(entry['step']): entry for entry in _entries(work_dir) if 'loss' in entry}
    return [by_step[step] for step in sorted(by_step)]


def read_validations(work_dir: Path) -> list[dict[str, float]]:
    """Read the results of the validations of a run, in order of iterations.

    Returns:
        The metrics by their names, such as 'wider_face/hard'. ``iteration`` is that of the last
        training entry before the validation.

    Raises:
        ValueError: A line of a log cannot be read.
    """
    by_step: dict[float, dict[str, float]] = {}
    iteration: float = 0
    for entry in _entries(work_dir):
        if 'loss' in entry:
            iteration = entry['step']
            continue
        metrics = {name: value for name, value in entry.items() if '/' in name}
        if metrics:  # of the same epoch again, after a resume
            by_step[entry['step']] = {**metrics, 'iteration': iteration}
    return [by_step[step] for step in sorted(by_step)]


def _entries(work_dir: Path) -> Iterator[dict[str, float]]:
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for number, line in enumerate(file.read_text(encoding='utf-8').splitlines(), 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f'{file}:{number}: expected JSON, found {line[:60]!r}') from error


def read_json(path: Path, writer: str) -> dict[str, Any]:
    """Read a file that another tool wrote.

    Raises:
        FileNotFoundError: The file does not exist.
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
    """Collect the results of the runs.

    Args:
        network: Name of the model.
        train_dir: Work dir of a training; None if there was only an evaluation.
        seconds: Duration of the training, from the start of its processes to their end.
        eval_dir: Work dir of the evaluation; None if there was none.

    Returns:
        The keys of the summary in order, with their values as text.
    """
    values = dict.fromkeys(
        ('BatchSize', 'ActualFPS', 'TrainingTime', 'ActualLoss', 'TrainAccuracy'), NOT_MEASURED
    )
    ranks, case = 1, f'{network}_1p_eval'
    if train_dir is not None:
        measured = read_json(train_dir / 'throughput.json', "training's ThroughputHook")
        ranks, batch = measured['world_size'], measured['batch_size_per_card']
        losses = _losses(train_dir)
        case = f'{network}_bs{batch}_{ranks}p_{"perf" if eval_dir is None else "acc"}'
        values |= {
            'BatchSize': str(batch),
            'ActualFPS': f'{measured["images_per_second"]:.2f}',
            'TrainingTime': f'{measured["seconds_per_iteration"]:.4f}',
            'ActualLoss': f'{losses[-1]["loss"]:.4f}' if losses else NOT_LOGGED,
        }
    if eval_dir is not None:
        found = read_json(eval_dir / 'metrics.json', 'tools/test.py --work-dir')
        if 'coco' in found:
            values['TrainAccuracy'] = f'{100 * found["coco"]["bbox_mAP"]:.2f}'
        else:
            # A subset without faces has no average precision.
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
    """Write the summary file. An existing file is kept: it is renamed with a number.

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
