# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Plot the losses of a training run and compare its beginning with its end."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmface.apis.run_summary import read_scalars
from mmface.utils.cli import make_parser
from mmface.utils.extras import optional_imports
from mmface.utils.files import whole_file


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        'Plot the losses of a training run and print the mean of its first and last log entries. '
        'Each entry is a mean over the logging interval. For one entry per iteration, train with '
        '--cfg-options default_hooks.logger.interval=1 log_processor.window_size=1.',
        'python tools/analysis/plot_losses.py work_dirs/scrfd_10g',
    )
    parser.add_argument('work_dir', type=Path, metavar='WORK_DIR', help='--work-dir of the run')
    parser.add_argument('--out', type=Path, help='image to write (WORK_DIR/losses.png)')
    parser.add_argument('--entries', type=int, default=20, help='entries to average (20)')
    return parser.parse_args(argv)


def main() -> None:
    """Print means and write the image."""
    args = parse_args()

    with optional_imports():
        import matplotlib

        matplotlib.use('Agg')
        import matplotlib.pyplot as plt
    import numpy as np

    scalars = read_scalars(args.work_dir)
    names = [name for name in scalars[-1] if name.startswith('loss')]
    steps = [entry['step'] for entry in scalars]
    figure, axes = plt.subplots(figsize=(8, 4.5), constrained_layout=True)
    count = min(args.entries, max(len(scalars) // 2, 1))
    print(f'{len(scalars)} entries, iterations {steps[0]} to {steps[-1]}; means of {count} entries')
    print(f'{"":12s}{"first":>10s}{"last":>10s}')
    for name in names:
        values = np.array([entry.get(name, np.nan) for entry in scalars])
        print(f'{name:12s}{values[:count].mean():10.4f}{values[-count:].mean():10.4f}')
        axes.plot(steps, values, label=name, linewidth=2 if name == 'loss' else 1)
    axes.set(xlabel='iteration', ylabel='loss', title=args.work_dir.name)
    axes.grid(alpha=0.3)
    axes.legend()
    out = args.out or args.work_dir / 'losses.png'
    with whole_file(out) as tmp:
        figure.savefig(tmp, dpi=120)
    print(f'written: {out}')
    bad = [entry['step'] for entry in scalars if not np.isfinite(entry['loss'])]
    if bad:
        raise ValueError(f'the loss is not finite in iteration {bad[0]} and {len(bad) - 1} more')
