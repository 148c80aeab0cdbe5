# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import os
import pty

import pytest

from mmface.utils.progress import progress_bar


def test_progress_bar__writes_nothing_into_a_log(tmp_path):
    with (tmp_path / 'log').open('w+') as log:
        assert list(progress_bar(range(100), file=log)) == list(range(100))
        assert log.tell() == 0


@pytest.mark.parametrize('show', [True, False])
def test_progress_bar__on_a_terminal(show):
    reader, writer = pty.openpty()
    with os.fdopen(writer, 'w') as terminal:
        for _ in progress_bar(range(3), show, file=terminal, desc='images'):
            pass
        terminal.write('end')
        terminal.flush()
        assert (b'images' in os.read(reader, 10000)) == show
    os.close(reader)
