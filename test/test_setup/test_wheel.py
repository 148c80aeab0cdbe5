# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Install the wheel in an empty environment: newest versions, no torch, no checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import pytest
from mmface_benchmark.toy_onnx import write_toy_centerface

FIVE_LINES = """
import cv2
from mmface.deploy.runtime import FaceDetector
detector = FaceDetector({model!r}, score_thr=0.5)
for face in detector(cv2.imread({image!r})):
    print(face.bbox, face.score)
"""
# Variables of the training environment. Detection needs none of them.
ALIEN = ('torch', 'mmcv', 'mmengine', 'mmdet', 'scipy', 'matplotlib')


def _run(cwd: Path, *command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in ``cwd``, where no path leads to the checkout or another environment."""
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV')}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope='module')
def wheel(repo, tmp_path_factory) -> Path:
    """Build the wheel from a copy, because building writes into the folder."""
    folder = tmp_path_factory.mktemp('wheel')
    copy = folder / 'source'
    for name in ('mmface', 'configs'):
        shutil.copytree(repo / name, copy / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('pyproject.toml', 'setup.py', 'README.md', 'LICENSE'):
        shutil.copy(repo / name, copy / name)
    pip = (sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation')
    _run(folder, *pip, '-w', folder, copy)
    (path,) = folder.glob('mmface-*.whl')
    return path


def test_wheel__holds_modules_and_configs_and_nothing_else(wheel, repo):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = [p for p in repo.glob('configs/**/*') if p.suffix in ('.py', '.yml')]
    assert len(configs) > 50
    assert {f'mmface/{path.relative_to(repo).as_posix()}' for path in configs} <= names
    modules = {path.relative_to(repo).as_posix() for path in repo.glob('mmface/**/*.py')}
    assert modules <= names
    page = repo / 'mmface' / 'evaluation' / 'report' / 'template'
    assert {path.relative_to(repo).as_posix() for path in page.iterdir()} <= names
    assert {name.split('/')[0] for name in names if '.dist-info/' not in name} == {'mmface'}


def _check_detection(folder: Path, model: Path, image: Path) -> None:
    """Check that five lines of Python and the command find the same faces."""
    script = FIVE_LINES.format(model=str(model), image=str(image))
    printed = _run(folder, folder / 'venv/bin/python', '-c', script).stdout.splitlines()
    assert printed
    command = (folder / 'venv/bin/mmface', 'detect', image, '--model', model, '--out', 'found')
    done = _run(folder, *command, '--json', '--overwrite')
    assert f'{len(printed)} faces' in done.stdout
    assert '\r' not in done.stderr  # no progress bar, because stderr is not a terminal
    faces = json.loads((folder / 'found/people.jpg.json').read_text())['faces']
    assert len(faces) == len(printed)
    drawn, before = (cv2.imread(str(path)) for path in (folder / 'found/people.jpg', image))
    assert drawn.shape == before.shape
    assert (drawn != before).any()


def _packages(folder: Path) -> dict[str, str]:
    """Return names and versions of the installed packages."""
    listed = _run(folder, folder / 'venv/bin/python', '-m', 'pip', 'list', '--format=json')
    return {item['name']: item['version'] for item in json.loads(listed.stdout)}


@pytest.mark.slow
def test_wheel__in_an_empty_environment_with_either_opencv(wheel, repo, tmp_path):
    python, mmface = tmp_path / 'venv/bin/python', tmp_path / 'venv/bin/mmface'
    _run(tmp_path, sys.executable, '-m', 'venv', tmp_path / 'venv')
    _run(
        tmp_path, python, '-m', 'pip', 'install', '--no-compile', f'mmface[cpu] @ {wheel.as_uri()}'
    )
    found = _packages(tmp_path)
    assert not [name for name in found if name.endswith(ALIEN)]
    assert [name for name in found if 'opencv' in name] == ['opencv-python']

    model = write_toy_centerface(tmp_path / 'toy.onnx')  # random weights find faces in anything
    image = Path(shutil.copy(repo / 'configs/scrfd/quickstart.jpg', tmp_path / 'people.jpg'))
    _check_detection(tmp_path, model, image)

    info = _run(tmp_path, mmface, 'info').stdout
    assert 'CPUExecutionProvider' in info
    assert f'opencv-python {found["opencv-python"]}' in info
    path = _run(tmp_path, python, '-c', 'import mmface; print(mmface.config_path("scrfd_10g"))')
    config = Path(path.stdout.strip())
    assert config.is_file()
    assert tmp_path in config.parents
    for words, remedy in (
        (['train', 'scrfd_10g'], 'bash build_mmcv.sh'),
        (['plot', '.'], 'pip install "mmface[eval]"'),
    ):
        (line,) = _run(tmp_path, mmface, *words, code=2).stderr.splitlines()
        assert line.startswith('error: ')
        assert remedy in line

    major = int(found['opencv-python'].partition('.')[0])
    other = 'opencv-python<5' if major >= 5 else 'opencv-python>=5'
    _run(tmp_path, python, '-m', 'pip', 'install', '--no-compile', other)
    assert int(_packages(tmp_path)['opencv-python'].partition('.')[0]) != major
    _check_detection(tmp_path, model, image)
