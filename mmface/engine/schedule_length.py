# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Training configs of another length: everything that counts epochs or iterations scales."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log

#: Options of schedulers that count epochs or iterations.
COUNTS = ('begin', 'end', 'T_max', 'step_size', 'total_steps')
COUNT_LISTS = ('milestones', 'periods')
#: Schedulers that raise the learning rate at the start. Each takes two steps or more.
WARMUPS = ('LinearLR', 'ConstantLR')


def scale_schedule(
    schedulers: Sequence[Mapping[str, Any]], before: int, now: int
) -> list[dict[str, Any]]:
    """Return the options of schedulers for a run of another length.

    Warm-up, milestones and periods keep their part of the run. A warm-up that counts iterations
    scales in the same way as one that counts epochs.

    Args:
        schedulers: Options of the schedulers, as in a config.
        before: Length that they were made for, in epochs or iterations.
        now: New length, in the same unit.
    """

    def scale(count: int) -> int:
        return now if count == before else max(1, round(count * now / before)) if count else 0

    scaled = []
    for options in schedulers:
        new = dict(options)
        for key in COUNTS:
            if new.get(key) is not None:
                new[key] = scale(new[key])
        for key in COUNT_LISTS:
            if key in new:
                new[key] = [scale(count) for count in new[key]]
        if str(new.get('type')).startswith('Exponential'):
            new['gamma'] = new['gamma'] ** (before / now)
        if new.get('end') is not None:  # a warm-up of one step would never end
            new['end'] = max(new['end'], new.get('begin', 0) + (2 if _is_warmup(new) else 1))
        scaled.append(new)
    return scaled


def scale_validation(train_cfg: dict[str, Any], before: int, now: int) -> None:
    """Change the intervals of the validation for a run of another length.

    The number of validations stays, as far as the new length allows. There is at least one,
    because a run validates at its end.

    Args:
        train_cfg: Options of the training loop. Changed in place.
        before: Length that they were made for, in epochs or iterations.
        now: New length, in the same unit.
    """
    if 'val_interval' in train_cfg:
        train_cfg['val_interval'] = max(1, round(train_cfg['val_interval'] * now / before))
    if 'val_begin' in train_cfg:
        train_cfg['val_begin'] = min(now, round(train_cfg['val_begin'] * now / before))
    if train_cfg.get('dynamic_intervals'):
        train_cfg['dynamic_intervals'] = [
            (round(at * now / before), max(1, round(interval * now / before)))
            for at, interval in train_cfg['dynamic_intervals']
        ]


def warn_of_warmup(loop: Any) -> None:
    """Log a warning if a training loop ends before its learning rate has reached its value."""
    schedulers = loop.runner.param_schedulers
    for scheduler in schedulers if isinstance(schedulers, list) else ():
        unit, length = ('epochs', loop.max_epochs) if scheduler.by_epoch else ('iterations', None)
        length = loop.max_iters if length is None else length
        name = type(scheduler).__name__
        if _is_warmup({**vars(scheduler), 'type': name}) and length < scheduler.end - 1:
            print_log(
                f'The run ends inside its warm-up: {length} {unit} of {scheduler.end - 1}, so the '
                'learning rate never reaches its value; --num-epochs scales the schedule with the '
                'length, or set a smaller `end` for '
                f'{name} in param_scheduler',
                logger='current',
                level=logging.WARNING,
            )


def _is_warmup(options: Mapping[str, Any]) -> bool:
    if str(options.get('type')) not in WARMUPS:
        return False
    first = options.get('start_factor', options.get('factor', 1 / 3))
    return first < options.get('end_factor', 1)
