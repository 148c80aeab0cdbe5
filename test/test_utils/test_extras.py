# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import re

import pytest

from mmface.utils.extras import EXTRAS, optional_imports


def test_optional_imports__names_the_extra():
    match = r'package scipy: pip install "mmface\[eval\]"'
    with pytest.raises(ModuleNotFoundError, match=match), optional_imports():
        raise ModuleNotFoundError("No module named 'scipy.io'", name='scipy.io')


def test_optional_imports__leaves_others_as_they_are():
    match = "No module named 'no_such_module_here'"
    with pytest.raises(ModuleNotFoundError, match=match), optional_imports():
        __import__('no_such_module_here')


def test_extras__stand_in_pyproject(repo):
    text = (repo / 'pyproject.toml').read_text()
    for package, extra in EXTRAS.items():
        (part,) = re.findall(rf'^{extra} = \[(.*?)^\]', text, re.MULTILINE | re.DOTALL)
        assert re.search(f'"{package.replace("_", "[-_]")}\\W', part), package
