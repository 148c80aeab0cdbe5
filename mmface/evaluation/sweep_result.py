# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Results of testing several checkpoints of one run, for tables and images."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmface.evaluation.wider_gt import SUBSETS
from mmface.utils.extras import optional_imports
from mmface.utils.files import whole_file, write_text

# As in mmface.evaluation.pr_curve.
_COLOURS = dict(zip(SUBSETS, ('#0072B2', '#E69F00', '#009E73'), strict=True))


@dataclass
class Checkpoint:
    """A checkpoint of a run and the result of its test."""

    path: Path
    number: int
    """The epoch or iteration."""
    folder: Path
    """Where its test writes its files."""
    ap: dict[str, float] = field(default_factory=dict)
    """AP by subset; empty until the checkpoint is tested."""
    note: str = ''
    """Why there is no result."""

    @property
    def name(self) -> str:
        """The file's name without suffix."""
        return self.path.stem


def read_ap(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Read the AP of each subset from the content of a ``metrics.json``; null becomes NaN.

    Raises:
        KeyError: A subset is missing.
    """
    values = {name: metrics['ap'][name] for name in SUBSETS}
    return {name: math.nan if value is None else float(value) for name, value in values.items()}


def best_of(checkpoints: Sequence[Checkpoint], select: str) -> Checkpoint | None:
    """Return the checkpoint with the highest AP (the first of equals), or None if none has one."""
    tested = [c for c in checkpoints if c.ap and not math.isnan(c.ap[select])]
    return max(tested, key=lambda checkpoint: checkpoint.ap[select], default=None)


def write_table(path: Path, checkpoints: Sequence[Checkpoint]) -> None:
    """Write the results as CSV, completely or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['checkpoint', 'number', *SUBSETS, 'note'])
    for item in checkpoints:
        ap = [f'{item.ap[name]:.6f}' if item.ap else '' for name in SUBSETS]
        writer.writerow([item.path.name, item.number, *ap, item.note])
    write_text(path, text.getvalue())


def format_rows(checkpoints: Sequence[Checkpoint], best: Checkpoint | None) -> str:
    """Format the results as a text table."""
    width = max(len(item.name) for item in checkpoints)
    lines = [f'{"":{width}s}' + ''.join(f'{name:>9s}' for name in SUBSETS)]
    for item in checkpoints:
        values = ''.join(f'{item.ap[name]:9.4f}' for name in SUBSETS) if item.ap else ''
        mark = '  best' if item is best else ''
        lines.append(f'{item.name:{width}s}{values or "  " + item.note}{mark}')
    return '\n'.join(lines)


def draw_curves(
    path: Path, checkpoints: Sequence[Checkpoint], best: Checkpoint, unit: str, title: str
) -> None:
    """Draw AP over the number of the checkpoint, in ``unit``, as a PNG."""
    with optional_imports():
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

    tested = [item for item in checkpoints if item.ap]
    numbers = [item.number for item in tested]
    figure = Figure(figsize=(7.5, 4.8), dpi=120, layout='constrained')
    axes = figure.add_subplot()
    axes.axvline(best.number, color='0.85', linewidth=6, zorder=0)
    for name in SUBSETS:
        values = [item.ap[name] for item in tested]
        label = f'{best.ap[name]:.4f}  {name}'
        axes.plot(numbers, values, marker='o', markersize=4, color=_COLOURS[name], label=label)
    axes.set(xlabel=unit, ylabel='AP', title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color='0.88', linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.legend(title=f'AP of {best.name}', loc='best', alignment='left', edgecolor='0.8')
    with whole_file(path) as tmp:
        figure.savefig(tmp, format='png')
