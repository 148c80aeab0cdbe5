# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""test/env_npu.sh prints nothing without CANN, and never overwrites the user's variables."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / 'env_npu.sh'
DEFAULTS = {
    'TASK_QUEUE_ENABLE': '2',
    'CPU_AFFINITY_CONF': '1',
    'PYTORCH_NPU_ALLOC_CONF': 'expandable_segments:True',
    'HCCL_CONNECT_TIMEOUT': '1800',
}
# CANN's own script does the same: it reads a variable that is not set, and one of its commands
# fails.
SET_ENV = """
export ASCEND_TOOLKIT_HOME="$HOME/Ascend/cann"
export LD_LIBRARY_PATH="$ASCEND_TOOLKIT_HOME/lib64:$LD_LIBRARY_PATH"
false
export TIMES=$((${TIMES:-0} + 1))
"""

pytestmark = pytest.mark.skipif(
    Path('/usr/local/Ascend').exists(), reason='CANN is installed here and would be activated'
)


@pytest.fixture
def source(tmp_path):
    """Source the script: ``source(times=1, **env)`` returns the variables after it, by name."""

    def run(times: int = 1, **env: str) -> dict[str, str]:
        done = subprocess.run(
            ['bash', '-euo', 'pipefail', '-c', f'{f". {SCRIPT};" * times} echo "OPTIONS=$-"; env'],
            capture_output=True,
            text=True,
            check=True,
            env={'PATH': os.environ['PATH'], 'HOME': str(tmp_path), **env},
        )
        assert done.stderr == ''
        return dict(line.split('=', 1) for line in done.stdout.splitlines())

    return run


@pytest.fixture
def cann(tmp_path):
    """Create a CANN as it is installed without root."""
    folder = tmp_path / 'Ascend' / 'cann'
    folder.mkdir(parents=True)
    (folder / 'set_env.sh').write_text(SET_ENV)
    return folder


def test_env_npu__without_cann_changes_nothing(source):
    found = source()
    assert not DEFAULTS.keys() & found.keys()
    assert not any(name.startswith(('ASCEND', '_mmface')) for name in found)


def test_env_npu__activates_cann_and_sets_the_defaults(source, cann):
    found = source()
    assert found['ASCEND_TOOLKIT_HOME'] == str(cann)
    assert {name: found.get(name) for name in DEFAULTS} == DEFAULTS
    assert 'e' in found['OPTIONS']
    assert 'u' in found['OPTIONS']


def test_env_npu__sourced_twice_does_it_once(source, cann):
    found = source(times=2)
    assert found['TIMES'] == '1'
    assert {name: found.get(name) for name in DEFAULTS} == DEFAULTS


def test_env_npu__keeps_what_the_user_set(source, cann):
    own = dict.fromkeys(DEFAULTS, '0')
    found = source(**own)
    assert {name: found[name] for name in DEFAULTS} == own


def test_env_npu__active_cann_of_another_place_is_kept(source, cann):
    found = source(ASCEND_HOME_PATH='/opt/cann')
    assert found['ASCEND_HOME_PATH'] == '/opt/cann'
    assert 'ASCEND_TOOLKIT_HOME' not in found
    assert found['TASK_QUEUE_ENABLE'] == '2'


def test_env_npu__general_memory_setting_excludes_the_one_for_npu(source, cann):
    """torch_npu ends with an error if both are set."""
    assert 'PYTORCH_NPU_ALLOC_CONF' not in source(PYTORCH_ALLOC_CONF='max_split_size_mb:64')


def test_env_npu__sets_nothing_else(cann):
    """Variables that torch_npu 2.13 does not read may be named in comments only."""
    code = re.sub(r'^\s*#.*$', '', SCRIPT.read_text(), flags=re.M)
    assert set(re.findall(r'export (\w+)', code)) == DEFAULTS.keys()
