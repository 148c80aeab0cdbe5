# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The layers of the package: which module may import which, checked from the source alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'mmface'
#: From bottom to top. A module may import only from the layers below its own.
FLOORS = (
    {'alignment'},
    {'structures'},
    {'utils'},
    {'datasets', 'models', 'evaluation', 'toys'},
    {'weights'},
    {'engine', 'visualization'},
    {'deploy'},
    {'apis'},
    {'cli', 'registry'},
    {'__main__'},
)
FRAMEWORK = {'torch', 'torchvision', 'mmdet', 'mmcv', 'mmengine'}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports_of(node: ast.AST, lazy: bool = True, types: bool = True) -> Iterator[str]:
    """Yield the full names that code imports.

    Imports inside of functions are left out if not ``lazy``, those for type checkers alone if not
    ``types``.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0 and child.module, 'a relative import'
            yield from (f'{child.module}.{alias.name}' for alias in child.names)
        elif not types and isinstance(child, ast.If) and 'TYPE_CHECKING' in ast.dump(child.test):
            continue
        elif lazy or not isinstance(child, ast.FunctionDef):
            yield from imports_of(child, lazy, types)


CODE = {name_of(path): ast.parse(path.read_bytes()) for path in sorted(PACKAGE.rglob('*.py'))}
# The functions of mmface itself import higher layers, but ``import mmface`` does not.
IMPORTS = {name: set(imports_of(tree, name != 'mmface')) for name, tree in CODE.items()}


def module_of(name: str) -> str | None:
    """Return the module of mmface that contains ``name``, or None if it is not in mmface."""
    while name and name not in IMPORTS:
        name = name.rpartition('.')[0]
    return name or None


def modules_below(name: str, types: bool = True) -> set[str]:
    names = IMPORTS[name] if types else imports_of(CODE[name], name != 'mmface', False)
    return {module for module in map(module_of, names) if module}


def test_floors__nothing_imports_upwards_or_sideways():
    level = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    level[None] = len(FLOORS)  # mmface itself
    wrong = []
    for name in IMPORTS:
        room = name.split('.')[1] if '.' in name else None
        for other in modules_below(name):
            below = other.split('.')[1] if '.' in other else None
            if below not in (None, room) and level[room] <= level[below]:
                wrong.append(f'{name} imports {other}')
    assert not wrong, wrong


def test_floors__no_circles():
    graph = {name: modules_below(name, types=False) - {name, 'mmface'} for name in IMPORTS}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_ground_floor__knows_no_registry():
    ground = [
        name
        for name in IMPORTS
        if name.split('.')[1:2] in (['utils'], ['structures'], ['alignment'])
    ]
    assert len(ground) > 10
    found = [
        f'{name} imports {other}'
        for name in ground
        for other in IMPORTS[name]
        if 'registry' in other.split('.')
    ]
    assert not found, found


@pytest.mark.parametrize('root', ['mmface.deploy.runtime', 'mmface.evaluation.wider_ap'])
def test_without_torch__neither_directly_nor_by_what_is_imported(root):
    seen, waiting = set(), {name for name in IMPORTS if f'{name}.'.startswith(f'{root}.')}
    assert waiting
    while waiting:
        name = waiting.pop()
        seen.add(name)
        # Importing a module also imports the packages that contain it.
        above = {name.rsplit('.', count)[0] for count in range(1, name.count('.') + 1)}
        waiting |= (modules_below(name) | above) - seen
    found = {
        f'{name} imports {other}'
        for name in seen
        for other in IMPORTS[name]
        if other.split('.')[0] in FRAMEWORK
    }
    assert not found, found
