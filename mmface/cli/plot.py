# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Plot losses, learning rate and validation of training runs, and compare runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmface.apis.run_summary import read_scalars, read_validations
from mmface.utils.cli import make_parser
from mmface.utils.extras import optional_imports
from mmface.utils.files import whole_file

#: Endings of the metrics that are plotted by default: WIDER FACE, COCO.
METRICS = ('/easy', '/medium', '/hard', 'mAP', 'mAP_50', '/AP', '/AP50')
#: Line styles of the metrics, if the colours tell the runs apart.
STYLES = ('-', '--', ':', '-.')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        'Plot losses, learning rate and average precision of training runs. Print the mean loss '
        'of the first and last log entries and the best validation. Several runs are compared '
        'in one image. Each entry is a mean over the logging interval. For one entry per '
        'iteration, train with '
        '--cfg-options default_hooks.logger.interval=1 log_processor.window_size=1.',
        'python tools/analysis/plot_losses.py work_dirs/scrfd_10g',
    )
    add = parser.add_argument
    add('work_dirs', type=Path, nargs='+', metavar='WORK_DIR', help='--work-dir of each run')
    add('--out', type=Path, help='image to write (losses.png in the first WORK_DIR)')
    add('--entries', type=int, default=20, help='entries to average (20)')
    add('--metrics', nargs='+', help='validation metrics to plot (default: average precision)')
    return parser.parse_args(argv)


class Run:
    """The logs of a run.

    Args:
        work_dir: Folder of the run.
        metrics: Names of the metrics, or None for average precision.
    """

    def __init__(self, work_dir: Path, metrics: Sequence[str] | None) -> None:
        self.name = work_dir.resolve().name
        self.scalars = read_scalars(work_dir)
        self.steps = [entry['step'] for entry in self.scalars]
        self.losses = [name for name in self.scalars[-1] if name.startswith('loss')]
        self.validations = read_validations(work_dir)
        found = {name: None for entry in self.validations for name in entry}
        self.metrics = [
            name
            for name in found
            if (name in metrics if metrics is not None else name.endswith(METRICS))
        ]
        missing = set(metrics or ()) - set(found)
        if missing:
            known = ', '.join(name for name in found if name != 'iteration') or 'none'
            raise ValueError(
                f'{work_dir} has no validation metric {", ".join(sorted(missing))}; it has {known}'
            )

    def describe(self, entries: int) -> str:
        """Return a table of mean losses, and the best value of each metric."""
        count = min(entries, max(len(self.scalars) // 2, 1))
        lines = [
            f'{self.name}: {len(self.scalars)} entries, iterations {self.steps[0]} to '
            f'{self.steps[-1]}; means of {count} entries',
            f'{"":12s}{"first":>10s}{"last":>10s}',
        ]
        for name in self.losses:
            values = self.series(name)
            first, last = (sum(part) / count for part in (values[:count], values[-count:]))
            lines.append(f'{name:12s}{first:10.4f}{last:10.4f}')
        for name in self.metrics:
            # Greater is better for average precision, the default.
            best = max(self.validations, key=lambda entry: entry.get(name, float('-inf')))
            lines.append(f'best {name} {best[name]:.4f}, iteration {best["iteration"]}')
        return '\n'.join(lines)

    def series(self, name: str) -> list[float]:
        """Return the values of a scalar, NaN where it was not logged."""
        return [entry.get(name, float('nan')) for entry in self.scalars]


def draw(runs: Sequence[Run], plt: Any) -> Any:
    """Return a figure with one panel each for losses, learning rate and metrics."""
    rows = 3 if any(run.metrics for run in runs) else 2
    figure, panels = plt.subplots(
        rows, figsize=(8, 3 * rows), sharex=True, constrained_layout=True, squeeze=False
    )
    losses, rates, *rest = panels[:, 0]
    for index, run in enumerate(runs):
        several = dict(color=f'C{index}') if len(runs) > 1 else {}
        for name in run.losses if len(runs) == 1 else ['loss']:
            label = name if len(runs) == 1 else run.name
            width = 2 if name == 'loss' and len(runs) == 1 else 1
            losses.plot(run.steps, run.series(name), label=label, linewidth=width, **several)
        rates.plot(run.steps, run.series('lr'), label=run.name, **several)
        at = [entry['iteration'] for entry in run.validations]
        for number, name in enumerate(run.metrics):
            values = [entry.get(name, float('nan')) for entry in run.validations]
            style = STYLES[number % len(STYLES)] if several else '-'
            label = f'{run.name} {name}' if several else name
            rest[0].plot(at, values, style, marker='o', markersize=3, label=label, **several)
    losses.set(ylabel='loss', title=', '.join(run.name for run in runs) if len(runs) < 3 else None)
    rates.set(ylabel='learning rate')
    for panel in rest:
        panel.set(ylabel='validation')
    panels[-1, 0].set(xlabel='iteration')
    for panel in panels[:, 0]:
        panel.grid(alpha=0.3)
    for panel in (losses, *rest):
        panel.legend(fontsize='small')
    return figure


def main() -> None:
    """Print means and write the image."""
    args = parse_args()
    with optional_imports():
        import matplotlib

        matplotlib.use('Agg')
        import matplotlib.pyplot as plt
    runs = [Run(folder, args.metrics) for folder in args.work_dirs]
    figure = draw(runs, plt)
    print('\n\n'.join(run.describe(args.entries) for run in runs))
    out = args.out or args.work_dirs[0] / 'losses.png'
    with whole_file(out) as tmp:
        figure.savefig(tmp, dpi=120)
    print(f'written: {out}')
    bad = [(run, step) for run in runs for step in _not_finite(run)]
    if bad:
        run, step = bad[0]
        raise ValueError(
            f'{run.name}: the loss is not finite in iteration {step} and {len(bad) - 1} more'
        )


def _not_finite(run: Run) -> list[float]:
    values = zip(run.steps, run.series('loss'), strict=True)
    return [step for step, loss in values if not abs(loss) < float('inf')]
