# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Time several ways to do the same work, in turn, so that a busy machine slows all equally."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mmface.utils.progress import progress_bar


@dataclass(frozen=True)
class Timing:
    """The time that one way took.

    Attributes:
        name: What was timed.
        median: Median duration of a run in seconds.
        low: First quartile.
        high: Third quartile.
        runs: Number of runs.
    """

    name: str
    median: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class Ratio:
    """The time of a baseline relative to the time of our way.

    Attributes:
        ours: Name of our way.
        baseline: Name of the baseline.
        median: Median over rounds of baseline / ours, both of the same round.
        low: First quartile.
        high: Third quartile.
    """

    ours: str
    baseline: str
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Timings of one task.

    Attributes:
        task: What was done, with its sizes.
        timings: One per way, in the given order.
        ratios: Every other way relative to the first one.
        notes: Values that are not times, such as peak memory.
    """

    task: str
    timings: Sequence[Timing]
    ratios: Sequence[Ratio]
    notes: Mapping[str, float | str]

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return asdict(self)


def compare(
    task: str,
    ways: Mapping[str, Callable[[], object]],
    rounds: int = 10,
    warmup: int = 2,
    synchronize: Callable[[], object] | None = None,
    notes: Mapping[str, float | str] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Run every way once per round, in turn, and compare the first with the others.

    The order is reversed in every other round, so that no way always follows the same one.

    Args:
        task: Description of the work.
        ways: Our way first, then baselines. They are called without arguments.
        rounds: Number of timed rounds.
        warmup: Number of untimed rounds at the start.
        synchronize: Function that waits for the device. It is called before the clock is read.
        notes: Values for ``Comparison.notes``.
        clock: Function that returns seconds. ``time.process_time`` counts the processor time of
            this process instead, which other programs do not affect.

    Raises:
        ValueError: There is no way, or no round, to time.
    """
    if not ways or rounds < 1:
        raise ValueError(f'{task}: expected at least one way and one round to time')
    wait = synchronize or (lambda: None)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in progress_bar(range(warmup + rounds), desc=task, leave=False):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            wait()
            start = clock()
            ways[name]()
            wait()
            if number >= warmup:
                seconds[name].append(clock() - start)
    timings = [Timing(name, *_quartiles(values), rounds) for name, values in seconds.items()]
    ours, *others = ways
    ratios = [
        Ratio(ours, other, *_quartiles(np.divide(seconds[other], seconds[ours])))
        for other in others
    ]
    return Comparison(task, timings, ratios, dict(notes or {}))


def _quartiles(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(median), float(low), float(high)


def format_table(comparison: Comparison) -> str:
    """Format a comparison as lines of text: milliseconds, quartiles and ratios."""
    lines = [comparison.task]
    width = max(len(timing.name) for timing in comparison.timings)
    ratios = {ratio.baseline: ratio for ratio in comparison.ratios}
    for timing in comparison.timings:
        line = (
            f'  {timing.name:<{width}}  {1e3 * timing.median:10.3f} ms'
            f'  [{1e3 * timing.low:.3f}, {1e3 * timing.high:.3f}]'
        )
        if timing.name in ratios:
            ratio = ratios[timing.name]
            line += f'  {ratio.median:.2f} x {ratio.ours}  [{ratio.low:.2f}, {ratio.high:.2f}]'
        lines.append(line)
    lines += [f'  {key}: {value}' for key, value in comparison.notes.items()]
    return '\n'.join(lines)
