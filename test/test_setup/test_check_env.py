# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

SCRIPT = 'tools/setup/check_env.py'


def test_check_env__working_environment_gives_the_version_table(run_tool):
    table = run_tool(SCRIPT, '--device', 'cpu').stdout
    assert 'nms runs on cpu' in table
    for package in ('python', 'torch', 'mmengine', 'mmcv', 'mmdet', 'numpy', 'opencv'):
        assert f'\n{package} ' in '\n' + table


def test_opencv__missing_system_library_names_its_package(run_tool, fake_package):
    text = 'libGL.so.1: cannot open shared object file: No such file or directory'
    place = fake_package('cv2.py', f'raise ImportError({text!r})\n')
    done = run_tool(SCRIPT, ok=False, PYTHONPATH=str(place))
    assert done.returncode == 2
    assert done.stderr.startswith('error: OpenCV does not load (libGL.so.1')
    assert 'sudo apt-get install libgl1 libglib2.0-0' in done.stderr


def test_ops__that_do_not_load_name_the_remedy(run_tool, fake_package):
    fake_package('mmcv/__init__.py', '')
    place = fake_package(
        'mmcv/ops.py', 'raise ModuleNotFoundError("No module named \'mmcv._ext\'")\n'
    )
    done = run_tool(SCRIPT, ok=False, PYTHONPATH=str(place))
    assert done.returncode == 2
    assert "mmcv's operators do not load" in done.stderr
    assert "No module named 'mmcv._ext'" in done.stderr
    assert 'bash build_mmcv.sh' in done.stderr


def test_ops__that_keep_wrong_boxes_are_refused(run_tool, fake_package):
    fake_package('mmcv/__init__.py', '')
    code = 'import torch\ndef nms(boxes, scores, thr):\n    return boxes, torch.tensor([0, 1, 2])\n'
    done = run_tool(SCRIPT, ok=False, PYTHONPATH=str(fake_package('mmcv/ops.py', code)))
    assert done.returncode == 2
    assert 'kept boxes [0, 1, 2], expected [1, 2]' in done.stderr
