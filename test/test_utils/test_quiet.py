# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import subprocess
import sys

CODE = """
from mmface.utils.quiet import import_mmdet_quietly
import_mmdet_quietly()
import torch
list(torch.utils.data.DataLoader([1, 2], pin_memory=True))
import warnings
warnings.warn('something else')
"""


def test_import__says_nothing_and_keeps_other_warnings():
    done = subprocess.run([sys.executable, '-c', CODE], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ''
    lines = [line for line in done.stderr.splitlines() if 'Warning' in line]
    assert len(lines) == 1
    assert 'something else' in lines[0]


FROZEN = """
import gc, weakref
from mmface.apis import FaceInferencer

class Node:
    pass

node = Node()
node.me = node  # a cycle
found = weakref.ref(node)
from mmface.apis import FaceInferencer
from mmface.utils.quiet import import_mmdet_quietly
import_mmdet_quietly()
del node
gc.collect()
assert found() is None
"""


def test_import__a_second_one_keeps_no_garbage_of_the_caller():
    done = subprocess.run(
        [sys.executable, '-c', FROZEN], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
