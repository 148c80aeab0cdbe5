# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Compare engines on an ONNX file: CPU time on one thread, and how far their outputs differ."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from mmface_benchmark.engines import ENGINES, Run, engine_version, fix_size, open_engine

from mmface.utils.cli import main_guard, make_parser


def measure(runs: dict[str, Run], x: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Run all engines in turn, after one round that does not count.

    Args:
        runs: The engines.
        x: The input.
        rounds: Number of rounds. Every second one is in reverse order.

    Returns:
        For each engine, the CPU seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name in list(runs)[:: 1 if turn % 2 else -1]:
            begin = time.process_time()
            runs[name](x)
            if turn:
                seconds[name].append(time.process_time() - begin)
    return seconds


def largest_difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Return the largest difference of two lists of outputs.

    Raises:
        ValueError: They have other shapes.
    """
    shapes = [[value.shape for value in outputs] for outputs in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ValueError(f'outputs of other shapes: expected {shapes[0]}, found {shapes[1]}')
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


def main() -> None:
    """Read the command line, measure, and print a table."""
    parser = make_parser(
        f'{__doc__} Packages: pip install "mmface[peers]".',
        'python tools/benchmark/benchmark_engines.py scrfd_500m_bnkps.onnx --size 640 640 '
        '--engines onnxruntime opencv',
    )
    parser.add_argument('model', type=Path, help='ONNX file')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='input size')
    parser.add_argument(
        '--engines',
        nargs='+',
        choices=ENGINES,
        default=list(ENGINES),
        help='default: all; the others are compared with the first',
    )
    parser.add_argument('--rounds', type=int, default=30, help='default: 30')
    args = parser.parse_args()
    if args.rounds < 1:
        raise ValueError('--rounds: expected at least 1')

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'model.onnx'
        shape = fix_size(args.model, path, args.size)
        x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        runs = {name: open_engine(name, path, Path(folder)) for name in args.engines}
        first, *_ = args.engines
        differences = {
            name: largest_difference(runs[first](x), run(x)) for name, run in runs.items()
        }
        seconds = measure(runs, x, args.rounds)
    print(f'{args.model.name}, input {"x".join(map(str, shape))}, {args.rounds} rounds, one thread')
    print(
        f'{"engine":12}{"version":>16}{"CPU ms":>10}{f"/ {first}":>16}{"quartiles":>14}'
        f'{"difference":>12}'
    )
    for name, times in seconds.items():
        ratios = np.array(times) / np.array(seconds[first])
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        print(
            f'{name:12}{engine_version(name):>16}{1000 * np.median(times):10.1f}{middle:16.2f}'
            f'{f"{low:.2f}-{high:.2f}":>14}{differences[name]:12.1e}'
        )


if __name__ == '__main__':
    main_guard(main)
