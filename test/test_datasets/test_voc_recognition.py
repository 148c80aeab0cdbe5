# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""XML is recognised in time that grows with its length only."""

from __future__ import annotations

import subprocess
import sys


def test_many_comments__are_read_once(repo):
    # In a process of its own: a pattern that groups comments in every way would not come back.
    code = (
        'from mmface.datasets.voc_labels import recognise as is_voc; text = "<!---->" * 2000; '
        'print(is_voc("a", text + "<annotation>"), is_voc("a", text + "<a>"))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=120, cwd=repo
    )
    assert done.stdout.split()[-2:] == ['True', 'False'], done.stderr
