# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A short run of the fuzz harness. README.md describes the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name('run.py')
# Readers that load without torch, so that this takes seconds.
QUICK = (
    'model spec', 'detections txt', 'detections json', 'part list', 'mindspore ckpt', 'ncnn layers',
    'ncnn weights', 'ascend manifest',
)  # fmt: skip


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize('reader', QUICK)
def test_reader__damaged_files_are_refused(reader):
    done = _run('--readers', reader, '--cases', '150', '--seed', '3')
    assert done.returncode == 0, done.stdout + done.stderr
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].split('|')[1:-1]]
    assert cells[:2] == [reader, '150']
    assert int(cells[2]) > 0 and int(cells[3]) > 30  # some are read, many refused


BROKEN = """
import os, sys, time
sys.path[:0] = [{folder!r}]
import readers, run
run.HANG_SECONDS, run.KILL_SECONDS, run.MEMORY = 0.3, 1, 1 << 26

def read(folder):
    case = int.from_bytes((folder / 'a').read_bytes(), 'big')
    if case == 1: raise KeyError('x')
    if case == 2: raise ValueError('no name')
    if case == 3:
        while True: pass
    if case == 4: time.sleep(60)
    if case == 5: os.abort()
    if case == 6: bytearray(1 << 27)
    if case == 7: raise ValueError(str(folder / 'a'))

reader = readers.Reader('broken', 'a', lambda folder: [bytes(1)], read)
run.find = lambda name: reader
run.make_case = lambda reader, seeds, seed, case: bytes([case])
import argparse, pathlib
run.supervise(argparse.Namespace(worker='broken', folder=sys.argv[1], cases=9, seed=0))
"""


def test_harness__notices_each_kind_of_failure(tmp_path):

    script = tmp_path / 'broken.py'
    script.write_text(BROKEN.format(folder=str(RUN.parent)))
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=120)
    row = json.loads((tmp_path / 'row').read_text())
    assert [(failure['case'], failure['what']) for failure in row['failures']] == [
        (1, 'uncaught'), (2, 'does not name the file'), (3, 'hang'), (4, 'hang'), (5, 'crash'),
        (6, 'memory'),
    ]  # fmt: skip
    assert (row['cases'], row['accepted'], row['refused']) == (9, 3, 2)  # 0, 6, 8; 2, 7
