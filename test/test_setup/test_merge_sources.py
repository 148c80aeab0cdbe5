# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import shutil
import subprocess

import pytest

SCRIPT = 'tools/setup/merge_sources.py'
SOURCES = {
    'pytorch/pybind.cpp': 'int one(); int two(); int three(); int four();\n'
    'int main() { return one() * 1000 + two() * 100 + three() * 10 + four() - 1234; }\n',
    # Two functions with one name, two types with one name, and a macro that breaks other files.
    'pytorch/one.cpp': 'static int help() {\n  return 1;\n}\nint one() { return help(); }\n',
    'pytorch/two.cpp': 'static int help() {\n  return 2;\n}\nint two() { return help(); }\n',
    'pytorch/cpu/one.cpp': '#define four 3\nstruct Box {\n  int x;\n};\n'
    'int three() { return four; }\n',
    'pytorch/cpu/four.cpp': 'struct Box {\n  int y;\n};\nint four() { return 4; }\n',
}


@pytest.fixture
def source(tmp_path):
    """Create an unpacked "mmcv" of five sources, whose names clash in every way that is handled."""
    for name, text in SOURCES.items():
        path = tmp_path / 'mmcv' / 'ops' / 'csrc' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.skipif(shutil.which('c++') is None, reason='no C++ compiler here')
@pytest.mark.parametrize('groups', [1, 2])
def test_merge__program_of_clashing_files_compiles_and_runs(run_tool, source, groups):
    run_tool(SCRIPT, source, '--groups', groups)
    csrc = source / 'mmcv' / 'ops' / 'csrc'
    # What mmcv's setup.py compiles.
    files = [*(csrc / 'pytorch').glob('*.cpp'), *(csrc / 'pytorch' / 'cpu').glob('*.cpp')]
    assert {path.name for path in files} == {'pybind.cpp', 'merged_0.cpp', 'merged_1.cpp'}
    subprocess.run(['c++', '-Werror', '-o', source / 'program', *files], check=True)
    assert subprocess.run([source / 'program']).returncode == 0


def test_merge__folder_without_sources_is_refused(run_tool, tmp_path):
    done = run_tool(SCRIPT, tmp_path, ok=False)
    assert done.returncode == 2
    assert 'expected an unpacked source distribution of mmcv' in done.stderr


def test_merge__bindings_read_fewer_headers(run_tool, source):
    bindings = source / 'mmcv' / 'ops' / 'csrc' / 'pytorch' / 'pybind.cpp'
    rest = bindings.read_text()
    bindings.write_text(f'#include <torch/extension.h>\n{rest}')
    run_tool(SCRIPT, source)
    fewer = '#include <torch/types.h>\n#include <torch/csrc/utils/pybind.h>\n'
    assert bindings.read_text() == fewer + rest
