# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Feed damaged files to every reader, in child processes; print a table of what happened."""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

#: Processor time, which other programs on the machine do not change.
HANG_SECONDS = 5
#: A reader that waits, or does not come back to Python, is killed after so many seconds.
KILL_SECONDS = 60
MEMORY = 1 << 30
STATE = struct.Struct('<qqqq')  # next case, accepted, refused, 1 at the end
#: What a reader may raise.
ALLOWED = (ValueError, OSError)


class Hang(BaseException):
    """A case took too long; no ``except Exception`` catches it."""


@dataclass
class Row:
    """What happened to one reader."""

    reader: str
    cases: int = 0
    accepted: int = 0
    refused: int = 0
    ended: int = 0
    seconds: float = 0.0
    failures: list[dict[str, Any]] = field(default_factory=list)


def find(name: str) -> Any:
    from readers import readers

    return next(reader for reader in readers() if reader.name == name)


def make_case(reader: Any, seeds: list[bytes], seed: int, case: int) -> bytes:
    """Make the damaged file number ``case``."""
    rng = random.Random(f'{seed}/{reader.name}/{case}')
    return reader.mutate(rng.choice(seeds), seeds, rng)


def work(args: argparse.Namespace) -> None:
    """Run cases of one reader in this process and note each before it begins."""
    reader = find(args.worker)
    folder = Path(args.folder)
    work_dir = Path(tempfile.mkdtemp(dir=folder))
    place = work_dir / reader.file
    place.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115, PTH123  (pycocotools prints)
    seeds = reader.seeds(work_dir)
    for seed in seeds:  # also loads what is imported late
        place.write_bytes(seed)
        reader.read(work_dir)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * MEMORY,) * 2)  # saves the machine
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _hang)
    state = os.open(folder / 'state', os.O_RDWR)
    case, accepted, refused, _ = STATE.unpack(os.pread(state, STATE.size, 0))
    with (folder / 'failures').open('a') as failures:
        while case < args.cases:
            os.pwrite(state, STATE.pack(case, accepted, refused, 0), 0)
            place.write_bytes(make_case(reader, seeds, args.seed, case))
            problem = None
            signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
            try:
                reader.read(work_dir)
                accepted += 1
            except ALLOWED as error:
                refused += 1
                if reader.named and work_dir.name not in str(error):
                    problem = describe(error, 'does not name the file')
            except BaseException as error:
                problem = describe(error, 'uncaught')
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
            if peak > MEMORY:
                problem = {'what': 'memory', 'error': f'{peak >> 20} MB', 'at': ''}
            if problem is not None:
                failures.write(json.dumps({'case': case, **problem}) + '\n')
                failures.flush()
            case += 1
            if peak > MEMORY:
                os.pwrite(state, STATE.pack(case, accepted, refused, 0), 0)
                os._exit(0)  # begin anew with a low peak
        os.pwrite(state, STATE.pack(case, accepted, refused, 1), 0)
    os._exit(0)


def _hang(*_: object) -> None:
    raise Hang


def describe(error: BaseException, what: str) -> dict[str, str]:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if 'mmface' in f.filename]
    at = f'{Path(frames[-1].filename).name}:{frames[-1].lineno}' if frames else ''
    what = 'hang' if isinstance(error, Hang) else what
    return {'what': what, 'error': f'{type(error).__name__}: {error}'[:200], 'at': at}


def run_reader(name: str, cases: int, seed: int, guarded: bool) -> Row:
    """Run all cases of a reader, in new processes as often as one ends early."""
    row = Row(name)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='mmface_fuzz_') as folder:
        state, failures = Path(folder, 'state'), Path(folder, 'failures')
        state.write_bytes(STATE.pack(0, 0, 0, 0))
        failures.touch()
        done = 0
        while not done:
            status, hung = _one_worker(name, cases, seed, folder, state)
            case, row.accepted, row.refused, done = STATE.unpack(state.read_bytes())
            if status == 0 and not hung:
                continue
            if status > 0 and not hung:
                raise RuntimeError(f'the worker of {name} failed before case {case}')
            if hung or not guarded:
                what = 'hang' if hung else 'crash'
                found = {'case': case, 'what': what, 'error': f'status {status}', 'at': ''}
                with failures.open('a') as handle:
                    handle.write(json.dumps(found) + '\n')
            else:
                row.ended += 1
            state.write_bytes(STATE.pack(case + 1, row.accepted, row.refused, 0))
        row.failures = [json.loads(line) for line in failures.read_text().splitlines()]
    row.cases, row.seconds = cases, time.monotonic() - began
    return row


def _one_worker(name: str, cases: int, seed: int, folder: str, state: Path) -> tuple[int, bool]:
    """Run a worker until it ends; give its status, and whether it had to be killed."""
    command = [sys.executable, __file__, '--worker', name, '--cases', str(cases)]
    command += ['--seed', str(seed), '--folder', folder]
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stderr=log, env=env)
        before, since, started = b'', time.monotonic(), False
        while process.poll() is None:
            time.sleep(0.05)
            now = state.read_bytes()
            if now != before:
                started = bool(before)
                before, since = now, time.monotonic()
            # Imports take their time on a busy machine.
            elif time.monotonic() - since > (KILL_SECONDS if started else 300):
                process.kill()
                process.wait()
                return process.returncode, True
        if process.returncode > 0:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors='replace')[-3000:])
        return process.returncode, False


def main() -> int:
    """Run what the command line says; the exit status is 1 if a reader failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cases', type=int, default=20000, help='of each reader (default 20000)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--readers', help='names, separated by commas (default: all)')
    parser.add_argument('--show', type=int, default=3, help='failures shown of each reader')
    parser.add_argument('--save', metavar='CASE', type=Path, help='write case CASE.stem here')
    parser.add_argument('--worker', help=argparse.SUPPRESS)
    parser.add_argument('--folder', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
    from readers import readers

    known = {reader.name: reader for reader in readers()}
    names = args.readers.split(',') if args.readers else list(known)
    print('| reader | cases | read | refused | reader ended | failures | s |')
    print('|---|---|---|---|---|---|---|')
    failed = 0
    for name in names:
        row = run_reader(name, args.cases, args.seed, known[name].guarded)
        ended = row.ended if known[name].guarded else '-'
        print(
            f'| {name} | {row.cases} | {row.accepted} | {row.refused} | {ended} | '
            f'{len(row.failures)} | {row.seconds:.0f} |',
            flush=True,
        )
        failed += len(row.failures)
        for failure in row.failures[: args.show]:
            print(f'    {failure}', file=sys.stderr)
    return failed > 0


if __name__ == '__main__':
    sys.exit(main())
