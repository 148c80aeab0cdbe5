# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Time the training step of several ranks, and trace when they exchange gradients."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mmface_benchmark.timing import Comparison, Ratio, Timing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``benchmark.py ranks``."""
    add = parser.add_argument
    add('config', nargs='?', default='configs/scrfd/scrfd_10g.py', help='default: %(default)s')
    add('--ranks', type=int, default=4, help='processes on this host (%(default)s)')
    add('--batch-size', type=int, default=2, help='images per rank (%(default)s)')
    add('--size', type=int, nargs=2, default=(320, 320), metavar=('H', 'W'), help='of images')
    add('--faces', type=int, default=30, help='per image (%(default)s)')
    add('--device', default='auto', help='auto (default), cpu, cuda or npu')
    add('--trace', type=Path, metavar='FILE', help='write the trace of rank 0 for Perfetto')


def run(args: argparse.Namespace) -> list[Comparison]:
    """Run the ranks and return what rank 0 measured.

    Raises:
        RuntimeError: A rank failed.
    """
    here = Path(__file__).resolve()
    paths = [str(here.parents[3]), str(here.parents[1]), os.environ.get('PYTHONPATH', '')]
    # Without this, every rank on the CPU would use all cores.
    threads = str(max((os.cpu_count() or 1) // args.ranks, 1))
    env = {'OMP_NUM_THREADS': threads, **os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'found.json'
        settings = {**vars(args), 'out': str(out), 'trace': args.trace and str(args.trace)}
        command = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
        command += ['--nproc-per-node', str(args.ranks), '-m', 'mmface_benchmark.rank_process']
        done = subprocess.run(
            [*command, json.dumps(settings, default=str)], env=env, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f'a rank ended with {done.returncode}: {done.stderr[-3000:]}')
        found = json.loads(out.read_text())
    timings = [Timing(**timing) for timing in found['timings']]
    ratios = [Ratio(**ratio) for ratio in found['ratios']]
    return [Comparison(found['task'], timings, ratios, found['notes'])]
