# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Imports at first use, on packages made for the test and in a new process on mmdet."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from mmface.utils.deferred_imports import Later, LaterModule, deferred_imports

PACKAGE = {
    '__init__.py': '__version__ = "3.2"\n',
    'tools/__init__.py': 'class Base:\n    kind = "base"\n\n\ndef double(x):\n    return 2 * x\n',
    'tools/deep.py': 'ANSWER = 42\n',
}
USER = """
import heavy.tools as tools
import heavy.tools.deep
from heavy.tools import Base, double
from heavy.tools import deep
try:
    import missing
except ImportError:
    missing = None

def is_base(x):
    return isinstance(x, Base)
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, text in PACKAGE.items():
        path = tmp_path / 'heavy' / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def load(text: str = USER):
        (tmp_path / 'user_of_heavy.py').write_text(text)
        importlib.invalidate_caches()
        with deferred_imports('heavy', 'missing'):
            return importlib.import_module('user_of_heavy')

    yield load
    for name in [n for n in sys.modules if n.partition('.')[0] in ('heavy', 'user_of_heavy')]:
        del sys.modules[name]


def heavy_modules() -> list[str]:
    return [name for name in sys.modules if name.partition('.')[0] == 'heavy']


def test_block__imports_nothing_of_the_package_and_leaves_nothing_behind(user):
    module = user()
    assert heavy_modules() == []
    assert module.missing is None  # as without deferral
    assert not any(type(finder).__name__ == '_Finder' for finder in sys.meta_path)
    assert not isinstance(importlib.import_module('heavy.tools'), LaterModule)


def test_stand_ins__give_the_real_objects_at_first_use(user):
    module = user()
    assert module.double(4) == 8
    tools = sys.modules['heavy.tools']
    assert module.tools.Base is tools.Base
    assert module.deep.ANSWER == 42
    assert module.heavy.tools.deep.ANSWER == 42
    assert module.heavy.__version__ == '3.2'
    assert module.Base.kind == 'base'


def test_stand_ins__classes_can_be_inherited_from_and_asked_for(user):
    module = user()

    class Child(module.Base):
        pass

    assert Child.__bases__ == (sys.modules['heavy.tools'].Base,)
    assert module.is_base(Child())
    assert not module.is_base(3)
    assert issubclass(Child, module.Base)
    assert isinstance(None, module.Base | None)


@pytest.mark.parametrize(
    'line', ['class Child(Base): pass', 'four = double(2)', 'heavy.__version__']
)
def test_block__ends_when_a_module_uses_a_stand_in_at_once(user, line):
    module = user(f'{USER}\n{line}\nimport heavy.tools as again\n')
    assert not isinstance(module.again, LaterModule)
    assert isinstance(module.double, Later)
    assert module.double(1) == 2


def test_attribute__that_does_not_exist_is_an_error_when_it_is_used(user):
    module = user('from heavy.tools import nothing')
    with pytest.raises(ImportError, match='nothing'):
        module.nothing()


def test_loaded_package__is_not_deferred(user):
    importlib.import_module('importlib.metadata')
    with deferred_imports('importlib'):
        assert not isinstance(importlib.import_module('importlib.resources'), LaterModule)


# The rest is what users of mmdet's seldom used parts rely on.
STAND_INS = """
import sys
from mmface.utils.quiet import SELDOM_USED, import_mmdet_quietly
import_mmdet_quietly()
loaded = sorted(name for name in SELDOM_USED if name in sys.modules)
assert not loaded, loaded

from mmface.utils.deferred_imports import Later, LaterModule
found = {}
for name, module in list(sys.modules.items()):
    if name.partition('.')[0] in ('mmdet', 'mmcv', 'mmengine', 'mmface'):
        for key, value in vars(module).items():
            if isinstance(value, (Later, LaterModule)):
                found[name, key] = value
assert not [name for name, key in found if name.startswith('mmface')]
for (name, key), value in found.items():
    real = value.resolve() if isinstance(value, Later) else value.load_real()
    assert callable(real) or type(real).__name__ == 'module', (name, key, real)
    assert type(real) not in (Later, LaterModule), (name, key)
print(len(found))

import torch
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
assigner = TASK_UTILS.build(
    dict(type='HungarianAssigner', match_costs=[dict(type='BBoxL1Cost', weight=1.0)])
)
boxes = torch.tensor([[0.0, 0, 4, 4], [8, 8, 9, 9]])
result = assigner.assign(
    InstanceData(bboxes=boxes),
    InstanceData(bboxes=boxes[:1], labels=torch.zeros(1, dtype=torch.long)),
    dict(img_shape=(16, 16)),
)
assert result.gt_inds.tolist() == [1, 0]
"""


def test_mmdet__loads_none_of_the_packages_and_every_stand_in_is_a_function_class_or_module():
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', STAND_INS],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5


def test_importers__other_modules_get_the_real_objects(user, tmp_path):
    (tmp_path / 'user_of_heavy.py').write_text(USER)
    with deferred_imports('heavy', importers=['mmdet']):
        module = importlib.import_module('user_of_heavy')
    assert not isinstance(module.double, Later)
    assert module.double(4) == 8
