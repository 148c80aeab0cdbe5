# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The report for NPUs on a host without one, and where parts are missing or broken."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mmface.utils.npu_report import WIDTH, device_files, npu_smi, version_files

BROKEN = 'libhccl.so: cannot open shared object file: No such file or directory'


@pytest.fixture
def report(repo, tmp_path):
    """Return a function that runs ``mmface info --npu``; it returns the rows by name."""

    def run(torch_npu: str, **env: str) -> dict[str, str]:
        (tmp_path / 'torch_npu').mkdir()
        (tmp_path / 'torch_npu/__init__.py').write_text(torch_npu)
        done = subprocess.run(
            [sys.executable, '-m', 'mmface', 'info', '--npu'],
            capture_output=True, text=True, cwd=repo, timeout=300,
            env={**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{repo}', **env},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return {line[:WIDTH].rstrip(): line[WIDTH + 1 :] for line in done.stdout.splitlines()}

    return run


def test_report__names_the_import_that_fails_and_tries_the_others(report):
    """Importing torch would import torch_npu, too: the reasons are kept apart."""
    rows = report(f'raise ImportError({BROKEN!r})', ASCEND_RT_VISIBLE_DEVICES='0,1')
    assert rows['import torch'][0].isdigit()
    reason = f'fails: ImportError: {BROKEN}; source the set_env.sh of CANN'
    assert rows['import torch_npu'] == reason
    assert rows['NPUs'] == 'not tried: needs "import torch_npu"'
    assert rows['matrix product'] == 'not tried: needs "NPUs"'
    assert rows['import mmcv.ops'] == rows['import mmdet'] == rows['import mmface'] == 'works'
    assert rows['ASCEND_RT_VISIBLE_DEVICES'[:WIDTH]].endswith('0,1')
    assert rows['result'] == f'import torch_npu {reason}'


def test_report__versions_that_do_not_fit(report):
    rows = report("__version__ = '2.1.0.post17'")
    assert rows['import torch_npu'] == '2.1.0.post17'
    assert 'do not fit: the first two numbers must be equal' in rows['their versions']
    assert rows['NPUs'].startswith('fails: none: check that the driver works')
    assert rows['result'].startswith('their versions fails')


def test_version_files__of_the_driver_and_of_two_generations_of_cann(tmp_path, monkeypatch):
    monkeypatch.delenv('ASCEND_HOME_PATH', raising=False)
    for name, text in {
        'driver/version.info': 'Version=25.2.0\nascendhal_version=7.35.23\n',
        'cann/aarch64-linux/ascend_toolkit_install.info': 'package_name=x\nversion=8.5.0\n',
        'ascend-toolkit/latest/version.cfg': '# version: 1.0\nruntime_running_version=[8.0.RC3]\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    found = [(name, text.split(' (')[0]) for name, text in version_files((tmp_path,))]
    assert found == [
        ('driver', '25.2.0'),
        ('firmware', f'not found: no {tmp_path}/firmware/version.info'),
        ('CANN', '8.5.0'),
        ('CANN', '[8.0.RC3]'),
    ]
    monkeypatch.setenv('ASCEND_HOME_PATH', str(tmp_path / 'cann'))  # the one in use comes first
    assert [text.split(' (')[0] for name, text in version_files((tmp_path,))][2] == '8.5.0'
    monkeypatch.delenv('ASCEND_HOME_PATH')
    assert dict(version_files((tmp_path / 'no',)))['CANN'].startswith('not found in ')


def test_cards__without_files_and_without_the_command(tmp_path, monkeypatch):
    assert '--device /dev/davinci0' in device_files(tmp_path)
    for name in ('davinci1', 'davinci0', 'davinci_manager'):
        (tmp_path / name).touch()
    assert device_files(tmp_path) == 'davinci0 davinci1 davinci_manager'
    monkeypatch.setenv('PATH', str(tmp_path))
    assert npu_smi() == 'not found in PATH'
    command = tmp_path / 'npu-smi'
    command.write_text('#!/bin/sh\necho "dcmi module initialize failed. ret is -8005"\nexit 1\n')
    command.chmod(0o755)
    assert npu_smi() == 'fails with status 1\ndcmi module initialize failed. ret is -8005'
