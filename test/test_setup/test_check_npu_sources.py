# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Check mmcv's NPU sources, with an invented torch_npu and mmcv of a few lines each."""

from __future__ import annotations

import shutil
import tarfile
import zipfile

import pytest

SCRIPT = 'tools/setup/check_npu_sources.py'
NPU = 'mmcv/ops/csrc/pytorch/npu'
FOCAL_LOSS = '#include <sigmoid.h>\nint focal_loss_npu() { return sigmoid(KERNELS); }\n'

pytestmark = pytest.mark.skipif(shutil.which('g++') is None, reason='no C++ compiler here')


@pytest.fixture
def wheel(tmp_path):
    """Write a "wheel of torch_npu": two headers, one in a folder that not every mmcv uses."""
    path = tmp_path / 'torch_npu-9.9.9-cp311-cp311-linux.whl'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('torch_npu/include/torch_npu/kernels.h', '#define KERNELS 8\n')
        archive.writestr('torch_npu/include/third_party/acl/inc/acl.h', 'using Handle = int;\n')
        archive.writestr('torch_npu/__init__.py', 'raise ImportError("libhccl.so")\n')
    return path


@pytest.fixture
def sdist(tmp_path):
    """Return a maker of a "source distribution of mmcv". ``{file: text}`` replaces single files."""

    def make(changes: dict[str, str] | None = None):
        files = {
            'setup.py': "include_dirs = ['/include/third_party/acl/inc']\n",
            'mmcv/ops/csrc/common/sigmoid.h': '#include <torch_npu/kernels.h>\n'
            'inline int sigmoid(int x) { return x; }\n',
            f'{NPU}/nms_npu.cpp': '#include <acl.h>\nHandle nms_npu() { return 1; }\n',
            f'{NPU}/roi_align_npu.cpp': '#ifndef MMCV_WITH_NPU\n#error no NPU\n#endif\n',
            f'{NPU}/focal_loss_npu.cpp': FOCAL_LOSS,
            **(changes or {}),
        }
        for name, text in files.items():
            path = tmp_path / 'mmcv-9.9.9' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        with tarfile.open(tmp_path / 'mmcv-9.9.9.tar.gz', 'w:gz') as archive:
            archive.add(tmp_path / 'mmcv-9.9.9', 'mmcv-9.9.9')
        return tmp_path / 'mmcv-9.9.9.tar.gz'

    return make


@pytest.fixture
def check(run_tool, wheel):
    def run(mmcv, *options: object):
        return run_tool(SCRIPT, '--mmcv', mmcv, '--torch-npu', wheel, *options, ok=False)

    return run


def test_sources__that_compile_are_ok(check, sdist):
    done = check(sdist())
    assert done.returncode == 0, done.stdout + done.stderr
    head, *table = done.stdout.splitlines()
    assert 'mmcv-9.9.9.tar.gz with the headers of torch_npu-9.9.9' in head
    assert [line.split() for line in table] == [
        ['nms_npu.cpp', 'ok'],
        ['roi_align_npu.cpp', 'ok'],
        ['focal_loss_npu.cpp', 'ok'],
    ]


def test_sources__fault_is_shown_with_its_place_and_the_rest_goes_on(check, sdist):
    done = check(sdist({f'{NPU}/nms_npu.cpp': '\nint nms_npu() { return SIZE; }\n'}))
    assert done.returncode == 1
    nms, roi_align, _ = done.stdout.splitlines()[1:]
    assert nms.split()[:2] == ['nms_npu.cpp', 'FAILS']
    assert "nms_npu.cpp:2:24: error: 'SIZE' was not declared" in nms
    assert roi_align.split() == ['roi_align_npu.cpp', 'ok']


def test_sources__get_only_the_folders_that_setup_py_asks_for(check, sdist):
    done = check(sdist({'setup.py': ''}))
    assert done.returncode == 1
    assert 'acl.h: No such file' in done.stdout.splitlines()[1]


def test_wheel__without_headers_is_refused(run_tool, sdist, tmp_path):
    with zipfile.ZipFile(tmp_path / 'other.whl', 'w') as archive:
        archive.writestr('numpy/__init__.py', '')
    options = ['--mmcv', sdist(), '--torch-npu', tmp_path / 'other.whl']
    done = run_tool(SCRIPT, *options, ok=False)
    assert done.returncode == 2
    assert 'has no headers: is it a wheel of torch_npu?' in done.stderr


def test_download__that_is_damaged_is_named(check, tmp_path):
    (tmp_path / 'mmcv.tar.gz').write_bytes(b'half')
    done = check(tmp_path / 'mmcv.tar.gz')
    assert done.returncode == 2
    assert done.stderr.startswith('error: a download is damaged')
    assert str(tmp_path / 'mmcv.tar.gz') in done.stderr


def test_download__without_network_names_the_cache(run_tool, tmp_path):
    offline = {'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': str(tmp_path)}
    done = run_tool(SCRIPT, '--cache', tmp_path, ok=False, **offline)
    assert done.returncode == 2
    assert done.stderr.startswith('error: cannot download torch-npu==2.13.0')
    assert f'put the file into {tmp_path}' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_download__is_kept(run_tool, tmp_path, wheel, sdist):
    """A file in the cache with pip's name is used, although there is no index."""
    cache = tmp_path / 'cache'
    cache.mkdir()
    shutil.copy(wheel, cache)
    shutil.copy(sdist(), cache)
    options = ['--mmcv', 'mmcv==9.9.9', '--torch-npu', 'torch-npu==9.9.9', '--cache', cache]
    done = run_tool(SCRIPT, *options, PIP_NO_INDEX='1')
    assert done.stdout.count(' ok') == 3


def test_compiler__missing_names_its_package(run_tool):
    done = run_tool(SCRIPT, ok=False, CXX='no-such-g++')
    assert done.returncode == 2
    assert 'no C++ compiler (no-such-g++) found' in done.stderr
