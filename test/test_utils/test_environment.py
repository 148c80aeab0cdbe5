# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import sys

import pytest

from mmface.cli.info import lines
from mmface.utils import environment


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Let a distribution appear to be installed in addition to the real ones."""

    def install(name: str, version: str) -> None:
        folder = tmp_path / f'{name.replace("-", "_")}-{version}.dist-info'
        folder.mkdir()
        (folder / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        )
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_check_opencv__two_of_them_are_refused(pretend):
    pretend('opencv-contrib-python', '4.10.0.84')
    with pytest.raises(RuntimeError, match=r'opencv-contrib-python 4\.10\.0\.84 are installed and'):
        environment.check_opencv()


def test_check_opencv__missing_one_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    with pytest.raises(RuntimeError, match='pip install opencv-python'):
        environment.check_opencv()


def test_info__says_what_does_not_work(pretend):
    pytest.importorskip('torch')
    pretend('opencv-contrib-python', '4.10.0.84')
    table = lines()
    assert any(line.startswith('opencv       does not work') for line in table)
    assert any(line.startswith('cpu          ') for line in table)
    assert 'mmcv.ops     nms runs on cpu' in table
