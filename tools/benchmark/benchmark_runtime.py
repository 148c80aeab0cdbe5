# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Time the parts of face detection with an ONNX file, optionally also with insightface."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from mmface.deploy.runtime import FaceDetector, letterbox
from mmface.deploy.runtime.face_detector import COMPATS
from mmface.deploy.runtime.session import open_session
from mmface.utils.cli import main_guard, make_parser
from mmface.utils.files import write_text
from mmface.utils.find_images import find_images
from mmface.utils.images import read_image
from mmface.utils.progress import progress_bar

PARTS = ('resize', 'pre', 'network', 'post', 'pre+post', 'whole')
RATIOS = ('pre+post', 'network', 'whole')


class Clock:
    """Measures one detection: when the network runs, and how long resizing takes.

    It replaces the module ``cv2`` in the timed code and wraps the ``run`` of its session. Both
    sides are measured in the same way.
    """

    def __init__(self) -> None:
        self.resizing = 0.0
        self.started = self.ended = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(cv2, name)

    def resize(self, *args: Any, **kwargs: Any) -> Any:
        """Call ``cv2.resize``."""
        return self._timed(cv2.resize, *args, **kwargs)

    def warpAffine(self, *args: Any, **kwargs: Any) -> Any:
        """Call ``cv2.warpAffine``."""
        return self._timed(cv2.warpAffine, *args, **kwargs)

    def session(self, session: Any) -> Any:
        """Return a session with only the method ``run``, which is timed."""
        clock = self

        class Session:
            def run(self, *args: Any, **kwargs: Any) -> Any:
                clock.started = time.perf_counter()
                outputs = session.run(*args, **kwargs)
                clock.ended = time.perf_counter()
                return outputs

        return Session()

    def measure(self, detect: Callable[[], object]) -> dict[str, float]:
        """Time one detection. Return the milliseconds of each part."""
        self.resizing = 0.0
        begin = time.perf_counter()
        detect()
        end = time.perf_counter()
        times = {
            'resize': self.resizing,
            'pre': self.started - begin - self.resizing,
            'network': self.ended - self.started,
            'post': end - self.ended,
            'whole': end - begin,
        }
        times['pre+post'] = times['pre'] + times['post']
        return {part: times[part] * 1000 for part in PARTS}

    def _timed(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        result = function(*args, **kwargs)
        self.resizing += time.perf_counter() - begin
        return result


def our_side(args: argparse.Namespace) -> tuple[Clock, Callable[[np.ndarray], object]]:
    """Create a clock and a function that detects faces with our runtime."""
    detector = FaceDetector(
        args.model,
        compat=args.compat,
        canvas=args.canvas,
        size=args.size,
        score_thr=args.score_thr,
        threads=args.threads,
    )
    clock = Clock()
    detector.session = clock.session(detector.session)
    _replace_cv2(letterbox, clock)
    return clock, detector


def their_side(
    args: argparse.Namespace, size: tuple[int, int]
) -> tuple[Clock, Callable[[np.ndarray], object]]:
    """Create a clock and a function that detects faces with insightface's class.

    Raises:
        ValueError: The package is not installed.
    """
    try:
        from insightface.model_zoo import scrfd
    except ImportError as error:
        raise ValueError(
            f'--insightface needs that package ({error}); pip install insightface'
        ) from error
    session = open_session(args.model, ['CPUExecutionProvider'], args.threads)
    detector = scrfd.SCRFD(model_file=str(args.model), session=session)
    detector.nms_thresh = 0.4
    detector.det_thresh = args.score_thr
    clock = Clock()
    if hasattr(detector, '_session_for_input_size'):
        choose = detector._session_for_input_size
        detector._session_for_input_size = lambda size: clock.session(choose(size))
    else:
        detector.session = clock.session(session)
    _replace_cv2(scrfd, clock)
    return clock, partial(detector.detect, input_size=(size[1], size[0]))


def benchmark(
    sides: dict[str, tuple[Clock, Callable[[np.ndarray], object]]],
    images: Sequence[np.ndarray],
    repeats: int,
) -> dict[str, list[dict[str, float]]]:
    """Time all sides on all images, in turn, after one untimed round.

    Returns:
        For each side, the milliseconds of each part, for each image and repetition.
    """
    times: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    bar = progress_bar(total=(repeats + 1) * len(images), unit='image', leave=False)
    for turn in range(repeats + 1):
        for image in images:
            # The second side finds the image in the cache, so the sides take turns to be second.
            order = list(sides)[:: 1 if turn % 2 else -1]
            for name in order:
                clock, detect = sides[name]
                found = clock.measure(partial(detect, image))
                if turn:
                    times[name].append(found)
            bar.update()
    bar.close()
    return times


def summarise(times: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return medians in milliseconds and, for two sides, the quartiles of the paired ratios."""
    summary: dict[str, Any] = {
        name: {part: round(median(row[part] for row in rows), 3) for part in PARTS}
        for name, rows in times.items()
    }
    if len(times) == 2:
        ours, theirs = times.values()
        summary['ratio'] = {}
        for part in RATIOS:
            ratios = [a[part] / b[part] for a, b in zip(ours, theirs, strict=True)]
            low, middle, high = np.percentile(ratios, [25, 50, 75]).round(3).tolist()
            summary['ratio'][part] = {'median': middle, 'quartiles': [low, high]}
    return summary


def format_summary(summary: dict[str, Any]) -> str:
    """Format a summary as a table."""
    rows = ['ms (median) ' + ''.join(f'{part:>10}' for part in PARTS)]
    for name, values in summary.items():
        if name != 'ratio':
            rows.append(f'{name:12}' + ''.join(f'{values[part]:10.2f}' for part in PARTS))
    for part, ratio in summary.get('ratio', {}).items():
        low, high = ratio['quartiles']
        rows.append(f'ratio {part}: {ratio["median"]:.2f} (quartiles {low:.2f} to {high:.2f})')
    return '\n'.join(rows)


def read_images(paths: Sequence[Path], limit: int) -> list[np.ndarray]:
    """Read images from files and folders, evenly sampled if there are more than ``limit``.

    Raises:
        FileNotFoundError: A file is missing, or a folder has no images.
        ValueError: A file is not an image.
    """
    files: list[Path] = []
    for path in paths:
        files += find_images(path).values() if path.is_dir() else [path]
    step = max(len(files) // limit, 1)
    return [read_image(file) for file in files[::step][:limit]]


def main() -> None:
    """Read the command line, measure, and print a table."""
    parser = make_parser(
        f'{__doc__} Medians over all images. "pre" is the time before the network without '
        'resizing, "post" is the time after it.',
        'python tools/benchmark/benchmark_runtime.py scrfd_500m_bnkps.onnx '
        'data/WIDERFace/val/images --insightface',
    )
    parser.add_argument('model', type=Path, help='ONNX file')
    parser.add_argument(
        'images', type=Path, nargs='+', metavar='IMAGES', help='images, or folders of images'
    )
    parser.add_argument(
        '--insightface',
        action='store_true',
        help="also time that package's SCRFD class, in turn, with the same file and threads",
    )
    parser.add_argument(
        '--threads', type=int, help="threads of the network (default: onnxruntime's choice)"
    )
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='input size')
    parser.add_argument('--compat', choices=COMPATS)
    parser.add_argument('--canvas', choices=letterbox.CANVASES, default='full')
    parser.add_argument('--score-thr', type=float, default=0.5, help='default: 0.5')
    parser.add_argument('--limit', type=int, default=50, help='number of images (default: 50)')
    parser.add_argument('--repeats', type=int, default=5, help='rounds (default: 5)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers here')
    args = parser.parse_args()
    if min(args.limit, args.repeats) < 1:
        raise ValueError('--limit and --repeats: expected at least 1')

    images = read_images(args.images, args.limit)
    sides = {'mmface': our_side(args)}
    if args.insightface:
        spec = FaceDetector(args.model, size=args.size).spec
        if spec.family != 'scrfd' or 0 in spec.size:
            raise ValueError(f'--insightface is for SCRFD, {args.model} is {spec.family}')
        sides['insightface'] = their_side(args, spec.size)
    summary = summarise(benchmark(sides, images, args.repeats))
    print(f'{len(images)} images, {args.repeats} rounds, {args.model.name}')
    print(format_summary(summary))
    if args.json is not None:
        write_text(args.json, json.dumps(summary, indent=2) + '\n')


def _replace_cv2(module: ModuleType, clock: Clock) -> None:
    setattr(module, 'cv2', clock)  # noqa: B010 (mypy knows the module without it)


if __name__ == '__main__':
    main_guard(main)
