# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The command ``mmface``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mmface
from mmface.__main__ import commands, overview, summary


def _python(code: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, '-c', code, *args], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_overview__a_line_for_each_command():
    lines = overview().splitlines()
    assert {'train', 'test', 'detect', 'export', 'evaluate', 'convert', 'info'} <= set(commands())
    for name, module in commands().items():
        assert summary(module)
        (line,) = [line for line in lines if line.startswith(f'  {name} ')]
        assert line.endswith(summary(module))


def test_overview__imports_nothing_heavy():
    code = (
        'import runpy, sys\nsys.argv = ["mmface"]\n'
        'try:\n    runpy.run_module("mmface", run_name="__main__")\n'
        'except SystemExit as end:\n    assert end.code == 0\n'
        'print(sorted({"torch", "numpy", "cv2", "mmengine"} & set(sys.modules)))\n'
    )
    printed = _python(code).splitlines()
    assert printed[-1] == '[]'
    assert '  detect ' in '\n'.join(printed)


def test_import__is_light():
    assert _python('import sys, mmface; print("numpy" in sys.modules)') == 'False\n'


@pytest.mark.parametrize('name', commands())
def test_command__help_has_its_name(name):
    done = subprocess.run(
        [sys.executable, '-m', 'mmface', name, '--help'],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'usage: mmface {name} ')
    assert f'  mmface {name}' in done.stdout[done.stdout.rindex('example:') :]
    assert 'tools/' not in done.stdout[done.stdout.rindex('example:') :]


def test_command__unknown_one_names_similar_ones():
    done = subprocess.run(
        [sys.executable, '-m', 'mmface', 'trian'], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == "error: no command 'trian': did you mean train?\n"


def test_version():
    done = subprocess.run(
        [sys.executable, '-m', 'mmface', '--version'], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f'{mmface.__version__}\n'


@pytest.mark.parametrize(
    'code', ['import mmface; mmface.register_all_modules()', 'import mmface.registry']
)
def test_register_all_modules__fills_the_registries_of_mmdet(code):
    pytest.importorskip('mmdet')
    code += (
        '\nfrom mmdet import registry\n'
        'print("SCRFDHead" in registry.MODELS, "WiderFaceDataset" in registry.DATASETS,\n'
        '      "WiderFaceMetric" in registry.METRICS, "ThroughputHook" in registry.HOOKS,\n'
        '      "FaceVisualizer" in registry.VISUALIZERS)'
    )
    assert _python(code).splitlines()[-1] == 'True True True True True'
