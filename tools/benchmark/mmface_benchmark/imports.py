# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Measure the work before the first iteration: imports, and reading the labels."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmface.datasets  # noqa: F401
from mmface.datasets.annotations import read_annotations
from mmface.datasets.coco_json import coco_text, parse_coco
from mmface_benchmark.timing import Comparison, compare

OURS, PORT, JSON = 'mmface', 'one line after the other', 'json.loads alone'
#: What is imported. The first is what tools/train.py imports before it builds anything.
IMPORTS = {
    'tools/train.py': 'from mmface.utils.quiet import import_mmdet_quietly as run; run()',
    'mmdet.models': 'import mmdet.models',
    'torch': 'import torch',
}
#: Prints processor time and resident memory. At the exit of the process, both would be others.
REPORT = """
import pathlib, re, time
status = pathlib.Path('/proc/self/status').read_text()
print(time.process_time(), int(re.search(r'VmRSS:\\s*(\\d+)', status)[1]) // 1024)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``benchmark.py import``."""
    add = parser.add_argument
    add(
        'config',
        nargs='?',
        default='configs/scrfd/scrfd_500m_bnkps.py',
        help='config of the training data set (%(default)s)',
    )
    add('--labels', help="labelv2 file, repeated as often as needed (default: the config's)")
    add('--images', help='folder of its images, required with --labels')
    add('--count', type=int, default=12880, help='entries of the label file (%(default)s)')


def run(args: argparse.Namespace) -> list[Comparison]:
    """Time the imports in separate processes, then the reading of labels.

    Raises:
        ValueError: Only one of ``--labels`` and ``--images`` is given, or the label file is
            empty.
    """
    if bool(args.labels) != bool(args.images):
        raise ValueError('expected --labels and --images together, found only one of them')
    return [_imports(args.rounds), *_labels(args)]


def _imports(rounds: int) -> Comparison:
    """Compare new processes that only import: processor time, and memory after the imports."""
    memory: dict[str, float] = {}
    seconds = 0.0  # of all processes until now

    def way(name: str) -> Callable[[], object]:
        def run() -> None:
            nonlocal seconds
            code = [sys.executable, '-W', 'ignore', '-c', f'{IMPORTS[name]}\n{REPORT}']
            done = subprocess.run(code, check=True, stdout=subprocess.PIPE, text=True)
            spent, memory[name] = (float(word) for word in done.stdout.split()[-2:])
            seconds += spent

        return run

    found = compare(
        'imports of a new process, processor time',
        {name: way(name) for name in IMPORTS},
        rounds,
        warmup=1,
        clock=lambda: seconds,
    )
    return replace(found, notes={f'memory of {name}, MiB': memory[name] for name in IMPORTS})


def _labels(args: argparse.Namespace) -> list[Comparison]:
    settings = Config.fromfile(args.config).train_dataloader.dataset
    if args.labels:
        settings.update(data_root='', ann_file=args.labels, data_prefix=dict(img_path=args.images))
    source = Path(settings.data_root or '') / settings.ann_file
    originals = Path(settings.data_root or '') / settings.data_prefix['img_path']
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / 'labelv2.txt'
        images = str(repeat_labels(source, originals, labels, args.count))
        options = {
            **settings,
            'data_root': '',
            'ann_file': str(labels),
            'data_prefix': dict(img_path=images),
            'pipeline': [],
        }

        def ours() -> object:
            with DefaultScope.overwrite_default_scope('mmdet'):
                return DATASETS.build(options)

        ways = {OURS: ours, PORT: lambda: read_by_line(labels, images)}
        task = f'start of a data set of {args.count} images'
        start = compare(task, ways, args.rounds, warmup=1)
        text = coco_text(read_annotations(labels))
    task = f'COCO-style labels of {args.count} images, {len(text) / 1e6:.1f} MB'
    ways = {OURS: lambda: parse_coco('labels.json', text), JSON: lambda: json.loads(text)}
    return [start, compare(task, ways, args.rounds, warmup=1)]


def repeat_labels(source: Path, images: Path, target: Path, count: int) -> Path:
    """Write a labelv2 file of ``count`` images by repeating the entries of ``source``.

    Each entry gets a name of its own, because a data set joins entries of one name.

    Args:
        source: A labelv2 file.
        images: Its folder of images.
        target: The file to write.
        count: Number of images.

    Returns:
        The folder with links to the images under their new names, beside ``target``.

    Raises:
        ValueError: ``source`` has no entries.
    """
    entries: list[tuple[str, str, list[str]]] = []
    for line in source.read_text(encoding='utf-8').splitlines(keepends=True):
        if line.startswith('#'):
            path, size = line[1:].strip().split(maxsplit=1)
            entries.append((path, size, []))
        elif entries:
            entries[-1][2].append(line if line.endswith('\n') else line + '\n')
    if not entries:
        raise ValueError(f'{source}: expected "# path width height" lines (labelv2), found none')
    folder = target.parent / 'images'
    with target.open('w', encoding='utf-8') as file:
        for number in range(count):
            path, size, rows = entries[number % len(entries)]
            link = folder / f'{number // len(entries)}_{path}'
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((images / path).resolve())
            file.write(f'# {link.relative_to(folder)} {size}\n')
            file.writelines(rows)
    return folder


def read_by_line(labels: Path, images: str) -> list[dict]:
    """Read labelv2 as SCRFD's data set does: one array per face, stacked for each image."""
    names: dict[str, list[dict]] = {}
    items = []
    for raw in labels.read_text(encoding='utf-8').splitlines():
        line = raw.strip()
        if line.startswith('#'):
            path, width, height = line[1:].split()
            objects: list[dict] = []
            names[path] = objects
            items.append((path, int(width), int(height), objects))
            continue
        values = [float(value) for value in line.split()]
        points = np.array([(-1, -1, 0)] * 5, np.float32)
        for index, place in enumerate(range(4, 19, 3) if len(values) >= 19 else ()):
            points[index] = values[place : place + 3]
            points[index, 2] = float(points[index, 2] >= 0)
        objects.append(dict(bbox=np.array(values[:4], np.float32), keypoints=points))
    return [
        dict(
            img_path=str(Path(images) / path),
            width=width,
            height=height,
            bboxes=np.array([face['bbox'] for face in objects], np.float32).reshape(-1, 4),
            keypoints=np.array([face['keypoints'] for face in objects], np.float32),
        )
        for path, width, height, objects in items
    ]
