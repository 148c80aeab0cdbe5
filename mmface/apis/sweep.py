# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Test several checkpoints of one run: find them, choose devices and identify their results."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmface.evaluation.sweep_result import Checkpoint, read_ap
from mmface.utils.files import write_text

#: The units that checkpoints count: the word in their file names, and the word in messages.
UNITS = {'epoch': 'epoch', 'iter': 'iteration'}
#: The environment variable that selects the card of a process.
VISIBLE = {'cuda': 'CUDA_VISIBLE_DEVICES', 'npu': 'ASCEND_RT_VISIBLE_DEVICES'}
#: What identifies a result: test and file.
Identity = dict[str, str | int]
GRACE = 10.0  # seconds that a child process has to end after SIGTERM
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True)
class Device:
    """Where one test runs: the value of ``--device`` and the environment."""

    name: str
    env: dict[str, str]


def find_checkpoints(
    work_dir: Path,
    by: str | None = None,
    start: int | None = None,
    end: int | None = None,
    step: int | None = None,
) -> tuple[list[Checkpoint], list[str], str]:
    """Find the checkpoints of a range.

    Args:
        work_dir: Folder of the run, with ``epoch_N.pth`` or ``iter_N.pth``.
        by: 'epoch' or 'iter'. Default: epochs if there are any or if there are no iterations.
        start: First N; default: the smallest N found.
        end: Last N; default: the largest N found.
        step: Take every ``step``-th number from ``start`` on; default: all that exist.

    Returns:
        The checkpoints in order, the names of missing ones, and 'epoch' or 'iter'.

    Raises:
        FileNotFoundError: The folder does not exist, or has no checkpoint in the range.
    """
    if not work_dir.is_dir():
        raise FileNotFoundError(f'{work_dir} is not a folder; expected one with checkpoints')
    found: dict[str, dict[int, Path]] = {unit: {} for unit in UNITS}
    for path in work_dir.glob('*.pth'):
        match = re.fullmatch(r'(epoch|iter)_(\d+)', path.stem)
        if match:
            found[match[1]][int(match[2])] = path
    by = by or ('epoch' if found['epoch'] or not found['iter'] else 'iter')
    there = found[by]
    start = min(there, default=0) if start is None else start
    end = max(there, default=0) if end is None else end
    wanted: Sequence[int] = sorted(number for number in there if start <= number <= end)
    if step is not None:
        wanted = range(start, end + 1, step)
    missing = [f'{by}_{number}.pth' for number in wanted if number not in there]
    checkpoints = [
        Checkpoint(there[number], number, work_dir / 'sweep' / f'{by}_{number}')
        for number in wanted
        if number in there
    ]
    if not checkpoints:
        has = f'has {by}_{min(there)}.pth to {by}_{max(there)}.pth' if there else 'has none'
        raise FileNotFoundError(
            f'no checkpoint {by}_N.pth with N from {start} to {end}'
            f'{f" in steps of {step}" if step else ""}: {work_dir} {has}'
        )
    return checkpoints, missing, by


def find_devices(text: str) -> list[Device]:
    """Read a list of devices, one for each test that runs at the same time.

    Args:
        text: Card numbers such as '0,1', or words such as 'cpu,cpu' or 'auto'.

    Raises:
        ValueError: A name is neither a device nor the number of an available card.
    """
    names = text.split(',')
    if all(name in ('cpu', 'auto') for name in names):
        # Without this, each process would use all cores.
        threads = max((os.cpu_count() or 1) // len(names), 1)
        env = {} if 'OMP_NUM_THREADS' in os.environ else {'OMP_NUM_THREADS': str(threads)}
        return [Device(name, env if name == 'cpu' else {}) for name in names]
    if not all(name.isdecimal() for name in names):
        raise ValueError(f"devices must be like 0,1 or cpu,cpu, not '{text}'")
    import torch
    from mmengine.device import get_device

    kind = get_device()
    if kind not in VISIBLE:
        raise ValueError(f'devices {text}: no CUDA or NPU card was found; use cpu,cpu')
    count = getattr(torch, kind).device_count()
    if max(map(int, names)) >= count:
        raise ValueError(f'devices {text}: there are {count} cards, numbered from 0')
    cards = visible_cards(count, os.environ.get(VISIBLE[kind]))
    return [Device(kind, {VISIBLE[kind]: cards[int(name)]}) for name in names]


def visible_cards(count: int, shown: str | None) -> list[str]:
    """Return the ids of ``count`` cards for a child. ``shown`` lists those this process sees."""
    return shown.split(',') if shown else [str(number) for number in range(count)]


def describe_test(cfg: Config, part: str | None = None) -> str:
    """Compute a digest of everything that a result depends on, except the checkpoint.

    Args:
        cfg: The complete config of the test, with its options.
        part: File that lists the images of the test. The digest includes its content.

    Raises:
        ValueError: The config does not measure AP.
    """
    text = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
    if '"WiderFaceMetric"' not in text:
        raise ValueError(
            f'config {cfg.filename} does not test with WiderFaceMetric, so there is no AP'
        )
    text += str(Path(cfg.get('data_root') or '').resolve())
    if part is not None:
        text += Path(part).read_text(encoding='utf-8')
    return hashlib.sha256(text.encode()).hexdigest()


def identify(checkpoint: Checkpoint, test: str) -> Identity:
    """Return what identifies the result of a test of this checkpoint."""
    stat = checkpoint.path.stat()
    return {'test': test, 'bytes': stat.st_size, 'mtime_ns': stat.st_mtime_ns}


def read_result(checkpoint: Checkpoint, test: str) -> bool:
    """Read the result of an earlier sweep if it belongs to this file and test. Return success."""
    try:
        content = json.loads((checkpoint.folder / 'result.json').read_text(encoding='utf-8'))
        if content['of'] != identify(checkpoint, test):
            return False
        checkpoint.ap = read_ap(content)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


class Pool:
    """Tests checkpoints in separate processes, one at a time on each device.

    Use it as a context manager. On exit it ends all tests that still run.

    Args:
        command: Interpreter, test program and config file. The path of a checkpoint,
            ``--work-dir`` and ``--device`` are appended.
        options: Further options of the test program.
        test: Digest of the test, see ``describe_test``.
        devices: Devices on which tests run.
    """

    def __init__(
        self,
        command: Sequence[str],
        options: Sequence[str],
        test: str,
        devices: Sequence[Device],
    ) -> None:
        self.command = command
        self.options = options
        self.test = test
        self.free = list(devices)
        self.running: dict[subprocess.Popen[bytes], tuple[Checkpoint, Device, Identity]] = {}

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
        """Test the checkpoints and yield each one when its test has ended."""
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
        command = [*self.command, str(checkpoint.path)]
        command += ['--work-dir', str(folder), '--device', device.name, *self.options]
        with (folder / 'log.txt').open('wb') as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **device.env},
                # A separate process group: Ctrl-C reaches only this process, which then ends the
                # group, data loaders included.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.running[process] = (checkpoint, device, of)

    def _finish(self, checkpoint: Checkpoint, status: int, of: Identity) -> None:
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
    # Tests must not outlive a killed sweep: they would write to the files of the next one.
    _LIBC.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Prevent a second sweep of the same work dir at the same time.

    Raises:
        ValueError: Another sweep is running.
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
    """Check, before the work starts, that the link replaces no file of the user.

    Raises:
        ValueError: A file or folder already has the name of the link.
    """
    if link.exists() and not link.is_symlink():
        raise ValueError(f'{link} is not a link: move it away, the best checkpoint is linked there')


def link_best(link: Path, target: Path) -> None:
    """Point ``link`` to a file beside it. Readers find the old link or the new one, never none."""
    check_link(link)
    temporary = link.with_name(f'.{link.name}.{os.getpid()}')
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    temporary.replace(link)
