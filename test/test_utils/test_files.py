# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Files appear whole or not at all, and the leftovers of killed writers are removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from mmface.utils.files import remove_leftovers, whole_file, write_text

WRITER = """
import sys, time
from mmface.utils.files import whole_file
with whole_file(sys.argv[1]) as tmp:
    tmp.write_text('half')
    print(tmp, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    """Start a process that is in the middle of a write, in a folder two levels below."""
    process = subprocess.Popen(
        [sys.executable, '-c', WRITER, str(tmp_path / 'a' / 'b' / 'epoch_1.pth')],
        stdout=subprocess.PIPE,
        text=True,
    )
    process.tmp = process.stdout.readline().strip()
    yield process
    process.kill()
    process.wait()


def test_whole_file__a_failure_leaves_the_former_content(tmp_path):
    write_text(tmp_path / 'a.txt', 'old')
    with pytest.raises(OSError, match='full'), whole_file(tmp_path / 'a.txt') as tmp:
        tmp.write_text('new')
        raise OSError('disk full')
    assert [path.read_text() for path in tmp_path.iterdir()] == ['old']


def test_remove_leftovers__only_of_dead_writers(writer, tmp_path):
    folder = tmp_path / 'a' / 'b'
    assert [str(path) for path in folder.iterdir()] == [writer.tmp]
    assert remove_leftovers(folder) == 0
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert remove_leftovers(tmp_path) == 0  # does not search subfolders
    assert remove_leftovers(tmp_path, recursive=True) == 1
    assert list(folder.iterdir()) == []


def test_remove_leftovers__nothing_else(tmp_path):
    names = ['.epoch_1.abcdefgh.pth', '.mmface-tmp-abcdefgh', 'a.mmface-tmp-abcdefgh.pth', '.git']
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / '.x.mmface-tmp-abcdefgh.pth').symlink_to('.git')
    assert remove_leftovers(tmp_path) == remove_leftovers(tmp_path / 'missing') == 0
    assert len(list(tmp_path.iterdir())) == len(names) + 1


def test_whole_file__errors_name_the_file(tmp_path):
    target = tmp_path / 'out.bin'
    with pytest.raises(OSError, match='No space left') as full, whole_file(target) as tmp:
        tmp.write_text('x')
        with open('/dev/full', 'w') as handle:  # noqa: PTH123
            handle.write('x')
    assert full.value.filename == str(target)
    with pytest.raises(OSError, match=r'out\.bin could not be written: 9 requested'):  # noqa: SIM117
        with whole_file(target):
            raise OSError('9 requested and 5 written')
    with pytest.raises(FileNotFoundError) as other, whole_file(target):
        (tmp_path / 'missing').read_text()
    assert other.value.filename == str(tmp_path / 'missing')  # the target is not blamed
    target.mkdir()
    with pytest.raises(IsADirectoryError) as there:
        write_text(target, 'x')
    assert there.value.filename == str(target)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize('mask', [0o022, 0o077])
def test_whole_file__mode_as_of_any_new_file(mask, tmp_path):
    before = os.umask(mask)
    try:
        (tmp_path / 'plain').touch()
        with whole_file(tmp_path / 'whole.txt') as tmp:
            tmp.write_text('content')
    finally:
        os.umask(before)
    assert (tmp_path / 'whole.txt').stat().st_mode == (tmp_path / 'plain').stat().st_mode
