# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Measure mmface on an accelerator, section by section, into one JSON file."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from mmface.utils.cli import main_guard, make_parser
from mmface.utils.files import write_text

#: What each module of this package measures, in this order.
SECTIONS = {
    'environment': 'versions; operators of mmcv against the CPU',
    'parity': 'one training step of each family against the CPU',
    'precision': 'training steps in float32, O1 and O2',
    'assignment': "assignment and losses against mmdet's",
    'syncs': 'waits of the host in a training step',
    'loading': 'training with the data loader',
    'testing': 'tools/test.py',
    'runtime': 'onnxruntime',
}
_NEED_DATA = ('loading', 'testing', 'runtime')
#: Seconds that a process which was asked to stop may take.
_GRACE = 5.0


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        f'{__doc__} Each section is a process of its own: if one fails, its error is in the file, '
        'the others run, and the exit status is 1. The file is written after each section.',
        'bash tools/benchmark/gpu.sh --device cuda --out gpu.json',
    )
    add = parser.add_argument
    add('--device', choices=('cuda', 'npu', 'cpu'), default='cuda', help='default: %(default)s')
    add('--out', type=Path, default=Path('gpu.json'), help='file to write (%(default)s)')
    add('--quick', action='store_true', help='tiny sizes: shows only that everything runs')
    add('--data-path', type=Path, help='data set like WIDER FACE (default: one is drawn)')
    add('--sections', nargs='+', choices=tuple(SECTIONS), default=list(SECTIONS), help='only these')
    add('--minutes', type=float, default=8, help='stop after this time (%(default)s)')
    add('--run', nargs=3, metavar=('SECTION', 'WORK', 'FILE'), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main() -> None:
    """Run all sections, or one of them in this process."""
    args = parse_args()
    if args.run:
        run_section(args)
        return
    deadline = time.monotonic() + 60 * args.minutes
    report: dict[str, Any] = {
        'command': sys.argv[1:],
        'device': args.device,
        'quick': args.quick,
        'started': time.strftime('%Y-%m-%dT%H:%M:%S'),
        'sections': {},
    }
    with tempfile.TemporaryDirectory(prefix='mmface_device_') as folder:
        work = Path(folder)
        drawing = None
        if args.data_path is None and set(args.sections) & set(_NEED_DATA):
            args.data_path = work / 'data'
            drawing = start_drawing(args.data_path, args.quick, work / 'draw.log')
        for name in args.sections:
            if name in _NEED_DATA and drawing is not None:
                wait_for(drawing, deadline - time.monotonic())
            done = start_section(name, args, work, deadline - time.monotonic())
            if name in _NEED_DATA and drawing is not None and drawing.returncode:
                done['error'] += 'the data set was not drawn: ' + (work / 'draw.log').read_text()
            report['sections'][name] = done
            write_text(args.out, json.dumps(report, indent=1) + '\n')
            state = (
                'ok'
                if done['ok']
                else 'FAILED: ' + ', '.join(list(filter(None, done['error'].splitlines()))[-2:])
            )
            print(f'{name}: {done["seconds"]:.1f} s, {state}', flush=True)
        if drawing is not None and drawing.poll() is None:
            drawing.kill()
            drawing.wait()
    failed = [name for name, done in report['sections'].items() if not done['ok']]
    print(f'written: {args.out}' + (f'; failed: {", ".join(failed)}' if failed else ''))
    sys.exit(1 if failed else 0)


def wait_for(process: subprocess.Popen, seconds: float) -> None:
    """Wait for a process, but not longer than some seconds."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(seconds, 0))


def start_drawing(root: Path, quick: bool, log: Path) -> subprocess.Popen:
    """Start to draw a data set while the first sections run."""
    train, val, size = (6, 8, ('160', '120')) if quick else (128, 400, ('1024', '768'))
    tool = Path(__file__).resolve().parents[3] / 'data' / 'make_toy.py'
    command = [sys.executable, str(tool), 'widerface', str(root), '--no-edge-cases']
    options = ['--num-train', str(train), '--num-val', str(val), '--size', *size]
    with log.open('w') as output:
        return subprocess.Popen(command + options, stdout=output, stderr=subprocess.STDOUT)


def start_section(
    name: str, args: argparse.Namespace, work: Path, seconds: float
) -> dict[str, Any]:
    """Run a section in a new process, because a fault on a device can end one.

    Returns:
        ``ok``, ``seconds``, ``found`` (the numbers) and ``error``, empty if there is none.
    """
    file = work / f'{name}.json'
    command = [sys.executable, '-m', 'mmface_benchmark.device.report', '--device', args.device]
    command += ['--run', name, str(work), str(file)] + ['--quick'] * args.quick
    command += [] if args.data_path is None else ['--data-path', str(args.data_path)]
    start = time.monotonic()
    log = work / f'{name}.log'
    with log.open('w') as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status: int | None = process.wait(timeout=max(seconds, 0))
        except subprocess.TimeoutExpired:
            status = None
            _stop(process)
    error = ''
    if status is None:
        error = f'stopped after {time.monotonic() - start:.0f} s: the time was over\n'
    elif status:
        error = f'exit status {status}\n'
    if error:
        error = log.read_text(errors='replace')[-6000:] + error
    found = json.loads(file.read_text()) if file.exists() else {}
    return dict(ok=not error, seconds=time.monotonic() - start, found=found, error=error)


def _stop(process: subprocess.Popen) -> None:
    """End a section and its workers."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            return


def run_section(args: argparse.Namespace) -> None:
    """Run one section in this process and exit with 1 if it fails."""
    from mmface.utils.quiet import import_mmdet_quietly

    name, work, file = args.run
    try:
        import_mmdet_quietly()
        from mmengine.logging import MMLogger

        from mmface.apis.config import load_config
        from mmface.utils.device import use_device
        from mmface_benchmark.device.settings import CheckError, Settings

        use_device(args.device)
        MMLogger.get_instance('device').setLevel('ERROR')  # not how each weight was initialised
        load_config('scrfd_500m')  # registers all classes
        data = args.data_path or Path()
        settings = Settings(args.device, args.quick, data, Path(work), Path(file))
        import_module(f'mmface_benchmark.device.{name}').run(settings)
        if settings.failed:
            raise CheckError('; '.join(settings.failed))
    except Exception:
        traceback.print_exc()
        sys.exit(1)


if __name__ == '__main__':
    main_guard(main)
