# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Damaged checkpoints are noticed, and a run resumes from the newest healthy one."""

from __future__ import annotations

import logging
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from mmface.utils.checkpoint import load_checkpoint_file
from mmface.utils.checkpoint_health import check_checkpoint_file, find_resume_checkpoint


def _save(path: Path, value: float = 1.0, **options) -> Path:
    torch.save({'state_dict': {'a': torch.full((1000,), value)}}, path, **options)
    return path


def _flip_a_bit(path: Path) -> None:
    """Change one number in the tensor. torch reads the file without an error."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        record = next(r for r in archive.infolist() if r.filename.endswith('data/0'))
    at = record.header_offset + 300  # after the header, padded to a multiple of 64
    data[at] ^= 0x40
    path.write_bytes(data)


@pytest.fixture
def messages(caplog, monkeypatch):
    """Collect messages of level warning, because mmengine's logger does not propagate them."""
    said: list[str] = []
    monkeypatch.setattr(
        'mmface.utils.checkpoint_health.print_log',
        lambda text, logger, level: said.append(text) if level >= logging.WARNING else None,
    )
    return said


def test_check__torch_reads_a_flipped_bit_and_we_do_not(tmp_path):
    path = _save(tmp_path / 'a.pth')
    check_checkpoint_file(path)
    _flip_a_bit(path)
    assert not torch.equal(torch.load(path)['state_dict']['a'], torch.ones(1000))
    with pytest.raises(ValueError, match=r'a.pth is damaged: the checksum of a/data/0'):
        load_checkpoint_file(path)


@pytest.mark.parametrize('share', [0.001, 0.3, 0.9, 0.999])
def test_check__cut_files(tmp_path, share):
    path = _save(tmp_path / 'a.pth')
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r'a\.pth is'):
        check_checkpoint_file(path)


def test_check__files_without_checksums_are_read_and_named(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(
        'mmface.utils.checkpoint_health.print_log', lambda text, logger, level: said.append(text)
    )
    old = _save(tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    torch.serialization.set_crc32_options(False)
    try:
        bare = _save(tmp_path / 'bare.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    for path in (old, bare):
        assert load_checkpoint_file(path)['state_dict']['a'].sum() == 1000
    assert 'old.pth has the format of torch before 1.6, with no checksums' in said[0]
    assert 'bare.pth was saved with no checksums' in said[1]


def test_check__a_small_file_that_says_it_is_huge(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a/data.pkl', bytes(1 << 20))
    with pytest.raises(ValueError, match='larger than the file'):
        check_checkpoint_file(tmp_path / 'a.pth')


@pytest.mark.parametrize('content', [b'', b'not a checkpoint'])
def test_check__no_checkpoint_at_all(tmp_path, content):
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(ValueError, match=r'is not a checkpoint written by torch\.save'):
        check_checkpoint_file(tmp_path / 'a.pth')


@pytest.fixture
def run(tmp_path):
    """Create a work dir with three checkpoints."""
    folder = tmp_path / 'run'
    folder.mkdir()
    for epoch in (2, 9, 10):  # 10 comes before 2 by name
        _save(folder / f'epoch_{epoch}.pth', epoch)
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_10.pth'))
    return folder


def test_find__the_named_one_without_a_word(run, messages):
    assert find_resume_checkpoint(run) == run / 'epoch_10.pth'
    (run / 'last_checkpoint').write_text(str(run / 'epoch_9.pth'))
    assert find_resume_checkpoint(run) == run / 'epoch_9.pth'
    assert messages == []


def test_find__follows_a_moved_and_a_copied_work_dir(run, tmp_path, messages):
    copy = tmp_path / 'copy'
    shutil.copytree(run, copy)
    assert find_resume_checkpoint(copy) == copy / 'epoch_10.pth'
    run.rename(tmp_path / 'moved')
    assert find_resume_checkpoint(tmp_path / 'moved') == tmp_path / 'moved' / 'epoch_10.pth'
    assert messages == []


@pytest.mark.parametrize('note', [None, b'', b'\xff\xfe', b'/gone/epoch_11.pth', b'a\0b', b'.'])
def test_find__last_checkpoint_missing_empty_or_wrong(run, messages, note):
    (run / 'last_checkpoint').unlink()
    if note is not None:
        (run / 'last_checkpoint').write_bytes(note)
    assert find_resume_checkpoint(run) == run / 'epoch_10.pth'
    assert 'last_checkpoint' in messages[0]
    assert 'resuming from' in messages[1]


def test_find__walks_back_with_a_line_for_each(run, messages):
    _flip_a_bit(run / 'epoch_10.pth')
    (run / 'epoch_9.pth').write_bytes((run / 'epoch_9.pth').read_bytes()[:700])
    assert find_resume_checkpoint(run) == run / 'epoch_2.pth'
    assert [m.partition(':')[0] for m in messages[:2]] == [
        f'NOT RESUMED FROM {run / name}' for name in ('epoch_10.pth', 'epoch_9.pth')
    ]
    assert messages[2:] == [f'resuming from {run / "epoch_2.pth"}, the newest healthy checkpoint']


def test_find__in_the_folder_of_a_checkpoint_hook_of_its_own(run, tmp_path, messages):
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'last_checkpoint').write_text(str(run / 'epoch_10.pth'))
    _flip_a_bit(run / 'epoch_10.pth')
    assert find_resume_checkpoint(work) == run / 'epoch_9.pth'


def test_find__within_an_epoch_the_time_decides(run):
    (run / 'last_checkpoint').unlink()
    _save(run / 'iter_3.pth')
    assert find_resume_checkpoint(run) == run / 'iter_3.pth'
    (run / 'epoch_10.pth').touch()
    assert find_resume_checkpoint(run) == run / 'epoch_10.pth'


def test_find__all_damaged_or_gone_is_an_error(run):
    for path in run.glob('*.pth'):
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r'none of the 3 checkpoints in .* the newest: .*epoch_10'):
        find_resume_checkpoint(run)
    for path in run.glob('*.pth'):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r'checkpoint is missing .*epoch_N\.pth'):
        find_resume_checkpoint(run)


def test_find__no_run_yet(tmp_path):
    assert find_resume_checkpoint(tmp_path) is None
    assert find_resume_checkpoint(tmp_path / 'missing') is None
