# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Test a range of checkpoints, several at a time, and name the best."""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mmface.cli import test as test_command
from mmface.evaluation.sweep_result import (
    Checkpoint,
    best_of,
    draw_curves,
    format_rows,
    read_ap,
    write_table,
)
from mmface.evaluation.wider_gt import SUBSETS
from mmface.utils.cli import main_guard, make_parser
from mmface.utils.files import write_text
from mmface.utils.progress import progress_bar
from mmface.utils.quiet import import_mmdet_quietly

TEST_TOOL = Path(__file__).resolve().parents[1] / 'test.py'
UNITS = {'epoch': 'epoch', 'iter': 'iteration'}
#: Options of tools/test.py that cannot be the same for all checkpoints, and what to do instead.
OWN_OPTIONS = {
    '--work-dir': 'each checkpoint has its own, WORK_DIR/sweep/<checkpoint>',
    '--device': 'use --devices',
    '--launcher': 'each test is one process',
    '--save-txt': 'test the best checkpoint with it afterwards',
    '--show-dir': 'test the best checkpoint with it afterwards',
}
#: The variable that chooses the card of a process.
VISIBLE = {'cuda': 'CUDA_VISIBLE_DEVICES', 'npu': 'ASCEND_RT_VISIBLE_DEVICES'}
SHOWN = 20  # missing checkpoints that are listed
GRACE = 10.0  # seconds that a child has to end by itself
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True)
class Device:
    """Where one test runs: value of ``--device`` and environment."""

    name: str
    env: dict[str, str]


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    parser = make_parser(
        'Test a range of checkpoints (epoch_N.pth or iter_N.pth in WORK_DIR), several at a time.\n'
        'Writes a table (sweep.csv), curves (sweep.png) and logs to WORK_DIR/sweep, and links the\n'
        'best as WORK_DIR/best.pth. Run it again to go on where it was stopped: results of the\n'
        'same checkpoint file, config, data path and options are kept.\n\n'
        'All other options (--mode, --part, --protocol, --tta, --cfg-options, ...) go to\n'
        'tools/test.py; give them after CONFIG and WORK_DIR.',
        'python tools/evaluation/sweep_checkpoints.py configs/scrfd/scrfd_500m_bnkps.py '
        'work_dirs/scrfd_500m_bnkps \\\n      --start 400 --step 10 --devices 0,1 --mode vga',
    )
    parser.allow_abbrev = False  # --device would be taken for --devices
    add = parser.add_argument
    add('config', metavar='CONFIG', help='config file')
    add('work_dir', type=Path, metavar='WORK_DIR', help='folder of the checkpoints')
    add('--by', choices=tuple(UNITS), help='which checkpoints (default: epoch if there are any)')
    add('--start', type=int, help='first epoch or iteration (default: first that there is)')
    add('--end', type=int, help='last epoch or iteration (default: last that there is)')
    add('--step', type=int, help='test every STEP-th (default: all that there are)')
    add(
        '--devices',
        default='auto',
        help='one test at a time on each: card numbers such as 0,1, or cpu,cpu for two processes '
        '(default: one, on the best device)',
    )
    add('--select', choices=SUBSETS, default='hard', help='AP that names the best (default hard)')
    add('--data-path', help='folder of the data set (default: data_root of the config)')
    args, rest = parser.parse_known_args()
    for option, instead in OWN_OPTIONS.items():
        if any(word.partition('=')[0] == option for word in rest):
            parser.error(f'{option} cannot be given here: {instead}')
    if args.step is not None and args.step < 1:
        parser.error(f'--step must be 1 or more, not {args.step}')
    if args.data_path is not None:
        rest = ['--data-path', str(Path(args.data_path).expanduser().resolve()), *rest]
    return args, rest


def find_checkpoints(args: argparse.Namespace) -> tuple[list[Checkpoint], list[str], str]:
    """Give the checkpoints of the range, the names of missing ones, and 'epoch' or 'iter'.

    Raises:
        FileNotFoundError: No folder, or no checkpoint in the range.
    """
    if not args.work_dir.is_dir():
        raise FileNotFoundError(f'{args.work_dir} is not a folder; expected one with checkpoints')
    found: dict[str, dict[int, Path]] = {unit: {} for unit in UNITS}
    for path in args.work_dir.glob('*.pth'):
        match = re.fullmatch(r'(epoch|iter)_(\d+)', path.stem)
        if match:
            found[match[1]][int(match[2])] = path
    by = args.by or ('epoch' if found['epoch'] or not found['iter'] else 'iter')
    there = found[by]
    start = min(there, default=0) if args.start is None else args.start
    end = max(there, default=0) if args.end is None else args.end
    wanted: Sequence[int] = sorted(number for number in there if start <= number <= end)
    if args.step is not None:
        wanted = range(start, end + 1, args.step)
    missing = [f'{by}_{number}.pth' for number in wanted if number not in there]
    checkpoints = [
        Checkpoint(there[number], number, args.work_dir / 'sweep' / f'{by}_{number}')
        for number in wanted
        if number in there
    ]
    if not checkpoints:
        has = f'has {by}_{min(there)}.pth to {by}_{max(there)}.pth' if there else 'has none'
        raise FileNotFoundError(
            f'no checkpoint {by}_N.pth with N from {start} to {end}'
            f'{f" in steps of {args.step}" if args.step else ""}: {args.work_dir} {has}'
        )
    return checkpoints, missing, by


def find_devices(text: str) -> list[Device]:
    """Read ``--devices``.

    Raises:
        ValueError: Something that is neither a device nor a card that is there.
    """
    names = text.split(',')
    if all(name in ('cpu', 'auto') for name in names):
        # Otherwise each process would take all cores.
        threads = max((os.cpu_count() or 1) // len(names), 1)
        env = {} if 'OMP_NUM_THREADS' in os.environ else {'OMP_NUM_THREADS': str(threads)}
        return [Device(name, env if name == 'cpu' else {}) for name in names]
    if not all(name.isdecimal() for name in names):
        raise ValueError(f"--devices must be like 0,1 or cpu,cpu, not '{text}'")
    import torch
    from mmengine.device import get_device

    kind = get_device()
    if kind not in VISIBLE:
        raise ValueError(f'--devices {text}: no CUDA or NPU card was found here; use cpu,cpu')
    count = getattr(torch, kind).device_count()
    if max(map(int, names)) >= count:
        raise ValueError(f'--devices {text}: there are {count} cards here, from number 0')
    cards = visible_cards(count, os.environ.get(VISIBLE[kind]))
    return [Device(kind, {VISIBLE[kind]: cards[int(name)]}) for name in names]


def visible_cards(count: int, shown: str | None) -> list[str]:
    """Name the ``count`` cards for a child: those ``shown`` to this process may be a choice."""
    return shown.split(',') if shown else [str(number) for number in range(count)]


def describe_test(config: str, options: Sequence[str]) -> str:
    """Give a digest of everything but the checkpoint that a result depends on.

    Raises:
        ValueError: Wrong options, or a config that does not measure AP.
        FileNotFoundError: Config, data or list of pictures are missing.
    """
    args = test_command.parse_args([config, '', '--work-dir', 'sweep', *options])
    import_mmdet_quietly()
    cfg = test_command.build_config(args)
    text = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
    if '"WiderFaceMetric"' not in text:
        raise ValueError(f'config {config} does not test with WiderFaceMetric, so there is no AP')
    text += str(Path(cfg.get('data_root') or '').resolve())
    if args.part is not None:
        text += Path(args.part).read_text(encoding='utf-8')
    return hashlib.sha256(text.encode()).hexdigest()


def identify(checkpoint: Checkpoint, test: str) -> dict[str, str | int]:
    """Say what a result is the result of."""
    stat = checkpoint.path.stat()
    return {'test': test, 'bytes': stat.st_size, 'mtime_ns': stat.st_mtime_ns}


def read_result(checkpoint: Checkpoint, test: str) -> bool:
    """Take the result of an earlier sweep, if it is one of this file and test."""
    try:
        content = json.loads((checkpoint.folder / 'result.json').read_text(encoding='utf-8'))
        if content['of'] != identify(checkpoint, test):
            return False
        checkpoint.ap = read_ap(content)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


class Pool:
    """Runs tools/test.py for checkpoints, one at a time on each device.

    Used as a context: at its end no test is left running.

    Args:
        config: Config file.
        options: Further options of tools/test.py.
        test: Digest of the test, see ``describe_test``.
        devices: Where tests run.
    """

    def __init__(
        self, config: str, options: Sequence[str], test: str, devices: Sequence[Device]
    ) -> None:
        self.config = config
        self.options = options
        self.test = test
        self.free = list(devices)
        self.running: dict[subprocess.Popen, tuple[Checkpoint, Device, dict]] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for process in self.running:
                if process.poll() is None:
                    os.killpg(process.pid, sign)
            end = time.monotonic() + GRACE
            for process in self.running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(end - time.monotonic(), 0))
        self.running.clear()

    def run(self, checkpoints: Sequence[Checkpoint]) -> Iterator[Checkpoint]:
        """Test the checkpoints and yield each when it is done."""
        waiting = list(checkpoints)
        while waiting or self.running:
            while waiting and self.free:
                self._start(waiting.pop(0), self.free.pop(0))
            for process in [p for p in self.running if p.poll() is not None]:
                checkpoint, device, of = self.running.pop(process)
                self.free.append(device)
                self._finish(checkpoint, process.returncode, of)
                yield checkpoint
            time.sleep(0.1)

    def _start(self, checkpoint: Checkpoint, device: Device) -> None:
        folder = checkpoint.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in ('metrics.json', 'result.json'):
            (folder / name).unlink(missing_ok=True)
        of = identify(checkpoint, self.test)
        command = [sys.executable, str(TEST_TOOL), self.config, str(checkpoint.path)]
        command += ['--work-dir', str(folder), '--device', device.name, *self.options]
        with (folder / 'log.txt').open('wb') as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **device.env},
                # A group of its own: Ctrl-C reaches this process only, which ends the group with
                # its data loaders.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.running[process] = (checkpoint, device, of)

    def _finish(self, checkpoint: Checkpoint, status: int, of: dict) -> None:
        if status != 0:
            log = (checkpoint.folder / 'log.txt').read_text(encoding='utf-8', errors='replace')
            last = next((line for line in reversed(log.splitlines()) if line.strip()), 'no output')
            checkpoint.note = f'exit status {status}: {last.strip()}'
            return
        try:
            text = (checkpoint.folder / 'metrics.json').read_text(encoding='utf-8')
        except FileNotFoundError:
            checkpoint.note = 'no metrics.json was written'
            return
        metrics = json.loads(text)
        checkpoint.ap = read_ap(metrics)
        result = json.dumps({'ap': metrics['ap'], 'of': of}, indent=2)
        write_text(checkpoint.folder / 'result.json', result + '\n')


_LIBC = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    # Not even a killed sweep leaves tests behind that would write where the next one does.
    _LIBC.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Refuse a second sweep of the same work dir at the same time.

    Raises:
        ValueError: There is one.
    """
    folder.mkdir(exist_ok=True)
    with (folder / '.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f'another sweep is running in {folder}; wait for it or end it'
            ) from None
        yield


def check_link(link: Path) -> None:
    """Refuse, before the work and not after it, to replace what is not ours.

    Raises:
        ValueError: A file or folder has the name of the link.
    """
    if link.exists() and not link.is_symlink():
        raise ValueError(f'{link} is not a link: move it away, the best checkpoint is linked there')


def link_best(link: Path, target: Path) -> None:
    """Point ``link`` to a file beside it; a reader finds the old one or the new one."""
    check_link(link)
    temporary = link.with_name(f'.{link.name}.{os.getpid()}')
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    temporary.replace(link)


def main() -> None:
    args, options = parse_args()
    checkpoints, missing, by = find_checkpoints(args)
    check_link(args.work_dir / 'best.pth')
    test = describe_test(args.config, options)
    devices = find_devices(args.devices)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = args.work_dir / 'sweep'
    with only_one(folder):
        if missing:
            more = f' and {len(missing) - SHOWN} more' if len(missing) > SHOWN else ''
            print(f'missing, skipped: {", ".join(missing[:SHOWN])}{more}', file=sys.stderr)
        waiting = [item for item in checkpoints if not read_result(item, test)]
        if len(waiting) < len(checkpoints):
            print(f'{len(checkpoints) - len(waiting)} of {len(checkpoints)} have a result already')
        bar = progress_bar(
            total=len(checkpoints),
            initial=len(checkpoints) - len(waiting),
            unit='test',
        )
        try:
            with bar, Pool(args.config, options, test, devices) as pool:
                for item in pool.run(waiting):
                    values = ', '.join(f'{name} {item.ap[name]:.4f}' for name in item.ap)
                    bar.write(f'{item.name}: {values or "failed, " + item.note}')
                    bar.update()
        finally:
            write_table(folder / 'sweep.csv', checkpoints)
        best = best_of(checkpoints, args.select)
        print(format_rows(checkpoints, best))
        if best is None:
            raise ValueError(
                f'no checkpoint has an AP on the {args.select} faces; the logs are '
                f'{folder}/*/log.txt'
            )
        title = f'{args.work_dir.resolve().name}: AP on WIDER FACE'
        draw_curves(folder / 'sweep.png', checkpoints, best, UNITS[by], title)
        link_best(args.work_dir / 'best.pth', best.path)
        print(
            f'best on the {args.select} faces: {best.path}, linked as {args.work_dir}/best.pth\n'
            f'written: {folder}/sweep.csv, {folder}/sweep.png'
        )


if __name__ == '__main__':
    main_guard(main)
