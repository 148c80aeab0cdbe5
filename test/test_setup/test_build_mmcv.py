# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""build_mmcv.sh names in one sentence what a machine lacks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASE_PYTHON = getattr(sys, '_base_executable', sys.executable)
without_cann = pytest.mark.skipif(
    Path('/usr/local/Ascend').exists(), reason='CANN is installed here and would be found'
)


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line of a failed run that begins with ``error:``."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1, done.stderr
    assert 'Traceback' not in done.stderr
    return lines[0]


@pytest.fixture
def path_with(tmp_path):
    """Return a PATH with only the tools of a minimal system."""
    tools = 'awk bash cat df dirname env grep head mkdir mktemp mv nproc rm sed tail uname'
    folder = tmp_path / 'bin'
    folder.mkdir()
    for tool in tools.split():
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Make a distribution look installed: ``installed(name, version)`` returns a PYTHONPATH."""

    def pretend(name: str, version: str) -> Path:
        folder = tmp_path / 'site' / f'{name}-{version}.dist-info'
        folder.mkdir(parents=True)
        (folder / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        )
        return tmp_path / 'site'

    return pretend


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--gpu'], 'unknown option --gpu'),
        (['--device', 'tpu'], "--device is auto, cpu, cuda or npu, not 'tpu'"),
        (['--stack'], 'needs a value'),
        (['--stack', 'mmlab'], "--stack is onedl or openmmlab, not 'mmlab'"),
        (['--python', 'no-such-python'], 'no python3 found'),
    ],
)
def test_options__wrong_one_is_named(build_mmcv, args, words):
    assert words in error_of(build_mmcv(*args))


def test_python__too_old_is_refused_with_its_version(build_mmcv, empty_venv, fake_package):
    place = fake_package('sitecustomize.py', 'import sys\nsys.version_info = (3, 8, 20)\n')
    message = error_of(build_mmcv('--python', empty_venv, PYTHONPATH=place))
    assert 'is Python 3.8 but mmface needs 3.10' in message
    assert '--python' in message


def test_venv__missing_module_names_its_package(build_mmcv, fake_package):
    place = fake_package(
        'ensurepip.py', 'raise ModuleNotFoundError("No module named \'ensurepip\'")\n'
    )
    message = error_of(build_mmcv('--python', BASE_PYTHON, PYTHONPATH=place))
    version = f'{sys.version_info[0]}.{sys.version_info[1]}'
    assert f'sudo apt-get install python{version}-venv' in message


def test_no_torch__fails_when_torch_is_missing(build_mmcv, empty_venv):
    message = error_of(build_mmcv('--python', empty_venv, '--device', 'cpu', '--no-torch'))
    assert 'torch is missing' in message
    assert 'install torch 2.13.0' in message


def test_torch__older_than_supported_is_refused(build_mmcv, empty_venv, installed):
    place = installed('torch', '2.1.0')
    message = error_of(build_mmcv('--python', empty_venv, '--device', 'cpu', PYTHONPATH=place))
    assert 'torch 2.1.0' in message
    assert 'older than 2.6' in message


def test_stack__other_one_is_not_overwritten(build_mmcv, empty_venv, installed):
    place = installed('mmcv', '2.1.0')
    message = error_of(build_mmcv('--python', empty_venv, '--stack', 'onedl', PYTHONPATH=place))
    assert 'contains mmcv 2.1.0' in message
    assert 'another environment' in message


def test_compiler__missing_names_its_package(build_mmcv, empty_venv, path_with):
    message = error_of(build_mmcv('--python', empty_venv, '--device', 'cpu', PATH=path_with))
    assert 'no C++ compiler' in message
    assert 'sudo apt-get install g++' in message


def test_headers__missing_names_their_package(build_mmcv, empty_venv, fake_package):
    place = fake_package(
        'sitecustomize.py',
        "import sysconfig\nsysconfig.get_paths = lambda: {'include': '/no/such/include'}\n",
    )
    done = build_mmcv('--python', empty_venv, '--device', 'cpu', PYTHONPATH=place, CXX='true')
    message = error_of(done)
    assert 'no Python headers (Python.h) in /no/such/include' in message
    assert f'python{sys.version_info[0]}.{sys.version_info[1]}-dev' in message


@pytest.fixture
def headers(fake_package):
    """Return a PYTHONPATH with which Python's headers seem to be installed."""
    place = fake_package('Python.h', '')
    return fake_package(
        'sitecustomize.py',
        f"import sysconfig\nsysconfig.get_paths = lambda: {{'include': {str(place)!r}}}\n",
    )


def test_disk__too_little_space_is_told_before_anything_is_installed(
    build_mmcv, empty_venv, headers
):
    message = error_of(
        build_mmcv(
            '--python',
            empty_venv,
            '--device',
            'cpu',
            PYTHONPATH=headers,
            CXX='true',
            MMFACE_MIN_FREE_MB=10**9,
        )
    )
    assert 'MB of free disk space, but 1000000000 MB are needed' in message


def test_disk__full_while_installing_is_told(build_mmcv, empty_venv, headers, fake_package):
    fake_package('pip/__init__.py', '')
    fake_package(
        'pip/__main__.py',
        "import sys\nif 'install' in sys.argv:\n"
        "    sys.exit('OSError: [Errno 28] No space left on device')\n",
    )
    options = ['--python', empty_venv, '--device', 'cpu']
    message = error_of(build_mmcv(*options, PYTHONPATH=headers, CXX='true', MMFACE_MIN_FREE_MB=0))
    assert 'the disk is full' in message


def test_cache__not_writable_names_the_variable(build_mmcv, empty_venv, tmp_path):
    (tmp_path / 'file').write_text('')
    options = ['--python', empty_venv, '--device', 'cpu']
    message = error_of(build_mmcv(*options, MMFACE_CACHE=tmp_path / 'file' / 'cache'))
    assert 'set MMFACE_CACHE' in message


@without_cann
def test_npu__without_cann_is_refused(build_mmcv, empty_venv, tmp_path):
    message = error_of(build_mmcv('--python', empty_venv, '--device', 'npu', HOME=tmp_path))
    assert 'CANN was not found' in message
    assert 'set_env.sh' in message
    assert '--check-npu-sources' in message


@without_cann
def test_npu__cann_that_is_not_active_names_its_script(build_mmcv, empty_venv, tmp_path):
    script = tmp_path / 'Ascend' / 'cann' / 'set_env.sh'
    script.parent.mkdir(parents=True)
    script.write_text('')
    message = error_of(build_mmcv('--python', empty_venv, '--device', 'npu', HOME=tmp_path))
    assert f'run: source {script}' in message


def test_npu__torch_of_another_version_is_refused(build_mmcv, empty_venv, installed, tmp_path):
    place = installed('torch', '2.12.0')
    options = ['--python', empty_venv, '--device', 'npu']
    message = error_of(build_mmcv(*options, PYTHONPATH=place, ASCEND_HOME_PATH=tmp_path))
    assert 'torch 2.12.0' in message
    assert 'works only with torch 2.13' in message


def test_npu_sources__without_torch_are_not_checked(build_mmcv, empty_venv):
    message = error_of(build_mmcv('--python', empty_venv, '--check-npu-sources'))
    assert '--check-npu-sources needs torch' in message


def test_npu__original_stack_is_refused(build_mmcv, empty_venv):
    options = ['--python', empty_venv, '--device', 'npu', '--stack', 'openmmlab']
    assert 'use --stack onedl' in error_of(build_mmcv(*options))


def test_cuda__without_nvcc_is_refused(build_mmcv, empty_venv, path_with, tmp_path):
    options = ['--python', empty_venv, '--device', 'cuda']
    message = error_of(build_mmcv(*options, PATH=path_with, CUDA_HOME=tmp_path))
    assert 'nvcc was not found' in message
    assert '--device cpu' in message
