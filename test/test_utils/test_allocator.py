# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Freed memory is reused."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from mmface.utils.allocator import keep_freed_memory
kept = keep_freed_memory()
for _ in range(20):
    np.ones(10**7, np.uint8)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(10**7, np.uint8)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def run(repo, **variables) -> tuple[str, int]:
    env = {key: value for key, value in os.environ.items() if not key.startswith('MALLOC_')}
    done = subprocess.run(
        [sys.executable, '-c', CODE],
        cwd=repo,
        env=env | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='a function of the GNU C library')
def test_keep_freed_memory__pages_of_a_second_block_are_there(repo):
    kept, faults = run(repo)
    assert kept == 'True'
    assert faults < 100  # of 2441 pages


def test_keep_freed_memory__the_users_choice_stays(repo):
    assert run(repo, MALLOC_MMAP_THRESHOLD_='1000000')[0] == 'False'
