# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Feed damaged files to every reader, in child processes, and print a table of the results."""

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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

#: Limit in processor time, which does not depend on other programs on the machine.
HANG_SECONDS = 5
#: A reader that waits, or does not return to Python, is killed after this number of seconds.
KILL_SECONDS = 60
MEMORY = 1 << 30
STATE = struct.Struct('<qqqq')  # next case, accepted, refused, 1 at the end
#: Exceptions that a reader may raise.
ALLOWED = (ValueError, OSError)


class Hang(BaseException):
    """A case took too long; no ``except Exception`` catches it."""


@dataclass
class Row:
    """Results of one reader."""

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


def supervise(args: argparse.Namespace) -> None:
    """Load one reader, then run its cases in children; start a new child if one ends early."""
    reader = find(args.worker)
    folder = Path(args.folder)
    work_dir = Path(tempfile.mkdtemp(dir=folder))
    (work_dir / reader.file).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115, PTH123  (pycocotools prints)
    seeds = reader.seeds(work_dir)
    for seed in seeds:  # also loads modules that are imported late
        (work_dir / reader.file).write_bytes(seed)
        reader.read(work_dir)
    state, failures = folder / 'state', folder / 'failures'
    state.write_bytes(STATE.pack(0, 0, 0, 0))
    failures.touch()
    row = Row(reader.name)
    began = time.monotonic()
    done = 0
    while not done:
        sys.stderr.flush()
        child = os.fork()
        if not child:
            run_cases(reader, seeds, args, work_dir, state, failures)
        status, hung = wait_for(child, state)
        case, row.accepted, row.refused, done = STATE.unpack(state.read_bytes())
        if status == 0:
            continue
        if reader.guarded and not hung:
            row.ended += 1
        else:
            note(failures, case, {'what': 'hang' if hung else 'crash', 'error': f'status {status}'})
        state.write_bytes(STATE.pack(case + 1, row.accepted, row.refused, 0))
    row.failures = [json.loads(line) for line in failures.read_text().splitlines()]
    row.cases, row.seconds = args.cases, time.monotonic() - began
    (folder / 'row').write_text(json.dumps(asdict(row)))


def wait_for(child: int, state: Path) -> tuple[int, bool]:
    """Wait for a child and kill it if it hangs. Return its status, and whether it was killed."""
    before, since, hung = b'', time.monotonic(), False
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), hung
        time.sleep(0.02)
        now = state.read_bytes()
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > KILL_SECONDS and not hung:
            os.kill(child, signal.SIGKILL)
            hung = True


def run_cases(
    reader: Any,
    seeds: list[bytes],
    args: argparse.Namespace,
    work_dir: Path,
    state_file: Path,
    failures: Path,
) -> NoReturn:
    """Run the remaining cases, each recorded before it begins; never return."""
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    # A guarded reader also has its limit in the package. For others it only protects the machine.
    limit = used + (MEMORY * 7 // 8 if reader.guarded else 4 * MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _hang)
    place = work_dir / reader.file
    state = os.open(state_file, os.O_RDWR)
    case, accepted, refused, _ = STATE.unpack(os.pread(state, STATE.size, 0))
    peak = 0
    while case < args.cases and peak <= MEMORY:  # afterwards a new child starts with a low peak
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
            problem = {'what': 'memory', 'error': f'{peak >> 20} MB'}
        if problem is not None:
            note(failures, case, problem)
        case += 1
    os.pwrite(state, STATE.pack(case, accepted, refused, case >= args.cases), 0)
    os._exit(0)


def note(failures: Path, case: int, problem: dict[str, str]) -> None:
    with failures.open('a') as handle:
        handle.write(json.dumps({'case': case, **problem}) + '\n')


def _hang(*_: object) -> None:
    raise Hang


def describe(error: BaseException, what: str) -> dict[str, str]:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if 'mmface' in f.filename]
    at = f'{Path(frames[-1].filename).name}:{frames[-1].lineno}' if frames else ''
    what = 'hang' if isinstance(error, Hang) else what
    return {'what': what, 'error': f'{type(error).__name__}: {error}'[:200], 'at': at}


def run_reader(name: str, cases: int, seed: int) -> Row:
    """Run all cases of a reader, which is loaded in a separate process.

    Raises:
        RuntimeError: The harness itself failed, for example with a seed that is not valid.
    """
    with tempfile.TemporaryDirectory(prefix='mmface_fuzz_') as folder:
        command = [sys.executable, __file__, '--worker', name, '--cases', str(cases)]
        command += ['--seed', str(seed), '--folder', folder]
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
        done = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f'{name}: {done.stderr[-3000:]}')
        return Row(**json.loads(Path(folder, 'row').read_text()))


def main() -> int:
    """Run the readers of the command line; return 1 if one failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--cases', type=int, default=20000, help='per reader (default 20000)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--readers', help='names, separated by commas (default: all)')
    parser.add_argument('--show', type=int, default=3, help='failures shown per reader')
    parser.add_argument('--worker', help=argparse.SUPPRESS)
    parser.add_argument('--folder', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        supervise(args)
        return 0
    from readers import readers

    known = {reader.name: reader for reader in readers()}
    names = args.readers.split(',') if args.readers else list(known)
    print('| reader | cases | read | refused | reader ended | failures | s |')
    print('|---|---|---|---|---|---|---|')
    failed = 0
    for name in names:
        row = run_reader(name, args.cases, args.seed)
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
