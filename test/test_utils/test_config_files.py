# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import pytest

from mmface import config_path
from mmface.utils.config_files import config_dir, model_configs


def test_config_path__by_path_name_and_place(repo, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = repo / 'configs/scrfd/scrfd_2.5g_bnkps.py'
    assert config_dir() == repo / 'configs'
    for name in (path, 'scrfd_2.5g_bnkps', 'configs/scrfd/scrfd_2.5g_bnkps.py'):
        assert config_path(name) == path
    base = '_base_/precision/amp_o2.py'
    assert config_path(base) == repo / 'configs' / base


def test_config_path__own_file_comes_first(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs/scrfd').mkdir(parents=True)
    own = tmp_path / 'configs/scrfd/scrfd_10g.py'
    own.write_text('')
    assert config_path('configs/scrfd/scrfd_10g.py').resolve() == own


@pytest.mark.parametrize('name', ['scrfd_2.5g_bnkp', 'configs/scrfd/scrfd_2.5g_bnkp.py'])
def test_config_path__names_similar_ones(name):
    with pytest.raises(FileNotFoundError, match=r'similar names: scrfd_2\.5g_bnkps'):
        config_path(name)


@pytest.mark.parametrize('name', ['', '.', '..', '../pyproject.toml', 'scrfd', 'metafile.yml'])
def test_config_path__what_is_no_config_is_refused(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        config_path(name)


def test_model_configs__have_names_of_their_own():
    names = [path.stem for path in model_configs()]
    assert len(names) > 30
    assert len(set(names)) == len(names)
