# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Damaged checkpoints, and runs that find them in their work dir."""

from __future__ import annotations

import logging
import random
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from case import Case, Outcome

from mmface.utils.checkpoint import load_checkpoint_file
from mmface.utils.checkpoint_health import check_checkpoint_file, find_resume_checkpoint
from mmface.utils.files import remove_leftovers

REPO = Path(__file__).resolve().parents[2]
SEED = 13


def save(path: Path, epoch: int = 1) -> Path:
    """Save the content of a training checkpoint: weights, momenta, notes; 2.5 MB, 60 records."""
    generator = torch.Generator().manual_seed(epoch)
    weights = {f'layer{n}.weight': torch.randn(100, 100, generator=generator) for n in range(30)}
    state = {n: {'momentum_buffer': torch.randn(100, 100)} for n in range(30)}
    content = {
        'meta': {'epoch': epoch, 'iter': 10 * epoch},
        'state_dict': weights,
        'message_hub': {},
        'optimizer': {'state': state, 'param_groups': [{'lr': 0.1}]},
    }
    torch.save(content, path)
    return path


def _in_a_record(path: Path, rng: random.Random) -> int:
    """Choose a byte of the content of a record."""
    with zipfile.ZipFile(path) as archive:
        records = [record for record in archive.infolist() if record.file_size]
        record = rng.choice(records)
        with path.open('rb') as handle:  # name and padding are between header and content
            handle.seek(record.header_offset + 26)
            lengths = handle.read(4)
    start = record.header_offset + 30
    start += int.from_bytes(lengths[:2], 'little') + int.from_bytes(lengths[2:], 'little')
    return start + rng.randrange(record.file_size)


def flip(path: Path, rng: random.Random) -> None:
    at = _in_a_record(path, rng)
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def blank(path: Path, rng: random.Random) -> None:
    """Fill a block with zeros, as a file system does after a power failure."""
    at = _in_a_record(path, rng) // 512 * 512
    data = bytearray(path.read_bytes())
    data[at : at + 512] = bytes(len(data[at : at + 512]))
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def flip_anywhere(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and all(map(_same, a, b)) and len(a) == len(b)
    return a == b


def noticed(damage: Callable[[Path, random.Random], None], tries: int, harmless: bool = False):
    """Build a case of damaged files, each of which must be rejected with its name.

    Args:
        damage: Damages a file.
        tries: Number of files.
        harmless: Whether a file may be read if its content is the same bit for bit: the padding
            of records to multiples of 64 bytes has no meaning.
    """

    def run(folder: Path) -> Outcome:
        path = save(folder / 'epoch_1.pth')
        healthy, content = path.read_bytes(), load_checkpoint_file(path)
        good = same = torch_reads = 0
        message = ''
        for number in range(tries):
            path.write_bytes(healthy)
            damage(path, random.Random(f'{SEED}/{number}'))
            try:
                torch.load(path, weights_only=True)
                torch_reads += 1
            except Exception:
                pass
            try:
                found = load_checkpoint_file(path)
            except ValueError as error:
                good += str(path) in str(error)
                message = message or str(error)
            else:
                same += harmless and _same(content, found)
        text = f'{message.replace(str(folder), "DIR")} (torch itself reads {torch_reads} of {tries}'
        return Outcome(good + same, f'{text}{f"; {same} in padding" if harmless else ""})')

    return run


class _Lines(logging.Handler):
    """Keeps the messages logged while a case runs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _find(folder: Path) -> tuple[Path | None, list[str]]:
    from mmengine.logging import MMLogger

    logger, lines = MMLogger.get_instance('faults'), _Lines()
    logger.addHandler(lines)
    try:
        return find_resume_checkpoint(folder), lines.lines
    finally:
        logger.removeHandler(lines)


def _run_folder(folder: Path) -> list[Path]:
    paths = [save(folder / f'epoch_{epoch}.pth', epoch) for epoch in range(1, 5)]
    (folder / 'last_checkpoint').write_text(str(paths[-1]))
    return paths


def walk_back(folder: Path) -> Outcome:
    """Check that the next intact one is found if the newest one, two or three are damaged."""
    paths = _run_folder(folder)
    good, message = 0, ''
    for damaged in range(1, 4):
        cut(paths[-damaged], random.Random(damaged))
        found, lines = _find(folder)
        loud = sum(line.startswith('NOT RESUMED FROM') for line in lines)
        good += found == paths[-damaged - 1] and loud == damaged
        message = lines[0].replace(str(folder), 'DIR')
    return Outcome(good, message)


def wrong_notes(folder: Path) -> Outcome:
    """Check runs whose ``last_checkpoint`` is missing, empty, not text, or names a missing file."""
    newest = _run_folder(folder)[-1]
    note, good, message = folder / 'last_checkpoint', 0, ''
    for content in (None, b'', b'\xff\xfe\0', b'/gone/epoch_9.pth', b'.'):
        note.unlink(missing_ok=True)
        if content is not None:
            note.write_bytes(content)
        found, lines = _find(folder)
        good += found == newest and 'last_checkpoint' in lines[0]
        message = lines[0].replace(str(folder), 'DIR')
    return Outcome(good, message)


def all_damaged(folder: Path) -> Outcome:
    for path in _run_folder(folder):
        cut(path, random.Random(path.name))
    try:
        find_resume_checkpoint(folder)
    except ValueError as error:
        return Outcome(1, str(error).replace(str(folder), 'DIR'))
    return Outcome(0, 'a new run would start and overwrite its damaged checkpoints')


def all_gone(folder: Path) -> Outcome:
    for path in _run_folder(folder):
        path.unlink()
    try:
        find_resume_checkpoint(folder)
    except FileNotFoundError as error:
        return Outcome(1, str(error).replace(str(folder), 'DIR'))
    return Outcome(0, 'a new run would start')


def _resume(folder: Path, resume: str, status: int, words: str) -> Outcome:
    command = [sys.executable, 'tools/train.py', 'configs/scrfd/scrfd_500m_bnkps.py', '--resume']
    command += [resume, '--work-dir', str(folder / 'work')]
    env = {'PYTHONPATH': str(REPO), 'PATH': '/usr/bin:/bin', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    good = done.returncode == status and words in last and last.startswith('error: ')
    return Outcome(int(good), last.replace(str(folder), 'DIR'))


LEFTOVER = """
import os, signal, sys
from mmface.utils.files import whole_file
with whole_file(sys.argv[1]) as tmp:
    tmp.write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leftovers(folder: Path) -> Outcome:
    """Kill writers during a write; the next run must remove the remains."""
    killed = 0
    for number in range(5):
        command = [sys.executable, '-c', LEFTOVER, str(folder / f'epoch_{number}.pth')]
        killed += subprocess.run(command, cwd=REPO, check=False).returncode == -signal.SIGKILL
    left = len(list(folder.iterdir()))
    removed = remove_leftovers(folder)
    good = killed == left == removed and not list(folder.iterdir())
    return Outcome(removed if good else 0, f'{left} left, {removed} removed by the next run')


def no_checksums(folder: Path) -> Outcome:
    """Check that files without checksums are read, and that a message says so."""
    good, message = 0, ''
    for name, options in (('old', {'_use_new_zipfile_serialization': False}), ('bare', {})):
        torch.serialization.set_crc32_options(name == 'old')
        try:
            torch.save({'state_dict': {'a': torch.ones(3)}}, folder / f'{name}.pth', **options)
        finally:
            torch.serialization.set_crc32_options(True)
        check_checkpoint_file(folder / f'{name}.pth')
        good += load_checkpoint_file(folder / f'{name}.pth')['state_dict']['a'].sum() == 3
        message = 'read; logged: no checksums, that its numbers are undamaged was not checked'
    return Outcome(int(good), message)


CASES = [
    Case('one flipped bit in a checkpoint', 20, noticed(flip, 20), quick=True),
    Case('512 zeros in a checkpoint', 10, noticed(blank, 10), quick=True),
    Case('checkpoint cut short', 10, noticed(cut, 10), quick=True),
    Case('one flipped bit anywhere in the file', 40, noticed(flip_anywhere, 40, True), quick=True),
    Case('newest 1, 2, 3 of 4 checkpoints damaged', 3, walk_back, quick=True),
    Case('last_checkpoint missing, empty or wrong', 5, wrong_notes, quick=True),
    Case('every checkpoint of a run damaged', 1, all_damaged, quick=True),
    Case('every checkpoint of a run gone', 1, all_gone, quick=True),
    Case('writer killed within a write', 5, leftovers, quick=True),
    Case('checkpoints without checksums', 2, no_checksums, quick=True),
    Case(
        'named checkpoint missing',
        1,
        lambda folder: _resume(folder, str(folder / 'no.pth'), 2, 'no.pth does not exist'),
    ),
]
