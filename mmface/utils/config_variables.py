# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Options that change the variables of a config.

A config computes its settings from variables (``max_epochs``, ``image_size``) while it is read.
mmengine merges options afterwards, when a change of a variable has no effect. This module reads
the file that defines the variable again, with the new value after the old one.
"""

from __future__ import annotations

import ast
import inspect
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

#: Settings that mmengine or mmface read from the config, besides the parameters of ``Runner``.
OTHER_SETTINGS = (
    'tta_model', 'tta_pipeline', 'runner_type', 'custom_imports', 'trust_checkpoint',
    'find_unused_parameters', 'reset_lr', 'reset_schedule', 'cpu_channels_last', 'sync_bn',
    'activation_checkpointing', 'efficient_conv_bn_eval', 'model_wrapper_cfg', 'compile',
    'allow_partial',
)  # fmt: skip
#: Text that mmengine replaces with the folder of the config file.
FOLDER_MARK = re.compile(r'\{\{\s*fileDirname\s*\}\}')


def read_config(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file and apply options.

    An option whose first name is a variable of the config (``max_epochs``,
    ``train_steps.crop.size``) acts as if the file that defines the variable contained the new
    value. Settings may be computed from the variable there but set again by a config that
    inherits it. A warning names those settings.

    Args:
        path: A config file. Variables work only in Python configs with ``_base_``.
        options: Dotted keys and values.
    """
    _read_plain.cache_clear()  # files may have changed
    changed_settings.cache_clear()
    cfg = Config.fromfile(path, import_custom_modules=False)
    options = dict(options or {})
    variables = {key: value for key, value in options.items() if _is_variable(cfg, key)}
    if variables and Path(path).suffix == '.py' and 'read_base' not in cfg.text:
        for key, value in variables.items():
            if isinstance(value, list) and isinstance(cfg.get(key), tuple):
                variables[key] = tuple(value)
        for key in variables:
            message = explain_without_effect(path, key, options)
            if message:
                print_log(message, logger='current', level=logging.WARNING)
        cfg = read_changed(path, variables)
    cfg.merge_from_dict({**options, **variables})
    return cfg


def explain_without_effect(
    path: str | Path, key: str, options: Mapping[str, Any] | None = None
) -> str | None:
    """Return a message if a variable does not change every setting computed from it.

    Args:
        path: The config file.
        key: Dotted key of the variable.
        options: All options. Settings among them need no warning.
    """
    definer = _definer(Path(path), key.split('.')[0])
    if definer is None:
        return None
    try:
        reached, fed = changed_settings(str(path), key), changed_settings(str(definer), key)
    except Exception:  # the config does not accept the trial value, so the effect is unknown
        return None
    settings = _leaves(_read_plain(str(path)))
    missed = (fed - reached) & settings.keys()
    if missed and missed <= set(options or ()):
        return None
    names = ', '.join(sorted(missed))
    if missed and reached:
        return f'{key} does not change all settings in this config: change {names}, too'
    if missed:
        return f'{key} changes nothing in this config: change {names}'
    if not reached and (fed or _is_read(definer, key.split('.')[0])):
        return f'{key} changes nothing in this config: no setting is computed from it'
    return None


@cache
def settings() -> frozenset[str]:
    """Return the names that a run reads, as opposed to other variables of the config."""
    from mmengine.runner import Runner  # imports torch

    names = {*inspect.signature(Runner.__init__).parameters, *OTHER_SETTINGS}
    return frozenset(names - {'self', 'cfg'})


def _is_variable(cfg: Config, key: str) -> bool:
    name = key.split('.')[0]
    return name in cfg and name not in settings()


@cache
def _read_plain(path: str) -> Config:
    return Config.fromfile(path, import_custom_modules=False)


def read_changed(path: str | Path, changes: Mapping[str, Any]) -> Config:
    """Read a config in which some variables have new values."""
    with tempfile.TemporaryDirectory() as folder:
        copy = _write_changed(Path(path), dict(changes), Path(folder))
        cfg = Config.fromfile(str(copy), import_custom_modules=False)
    plain = _read_plain(str(path))
    return Config(cfg._cfg_dict, plain.text, plain.filename, plain.env_variables)


def _write_changed(path: Path, changes: dict[str, Any], folder: Path) -> Path:
    """Write a changed copy of a config and of the configs that it inherits.

    Each change is made in the file that assigns the variable last.

    Returns:
        The path of the copy. Its file name is that of ``path``.
    """
    tree = _parse(path)
    own = {key: value for key, value in changes.items() if key.split('.')[0] in _assigned(tree)}
    others = {key: value for key, value in changes.items() if key not in own}
    place = Path(tempfile.mkdtemp(dir=folder)) / path.name
    body: list[ast.stmt] = []
    for statement in tree.body:
        if '_base_' in _targets(statement):
            copies = [_write_base(base, path, others, folder) for base in _base_names(statement)]
            body += ast.parse(f'_base_ = {copies!r}').body
            continue
        body.append(statement)
        # Repeated after every statement with the variable: each may change a part of it.
        for key, value in own.items():
            if key.split('.')[0] in _names(statement):
                body += ast.parse(_assignment(key, value)).body
    text = ast.unparse(ast.Module(body, []))
    place.write_text(FOLDER_MARK.sub(path.resolve().parent.as_posix(), text), encoding='utf-8')
    return place


def _write_base(base: str, path: Path, changes: dict[str, Any], folder: Path) -> str:
    if '::' in base:  # a config of another package is not changed
        return base
    return str(_write_changed(path.parent / base, changes, folder))


def _assignment(key: str, value: Any) -> str:
    name, *parts = key.split('.')
    if not parts:
        return f'{name} = {value!r}'
    place = ''.join(f'[{int(part) if part.isdecimal() else part!r}]' for part in parts)
    # The statement may come before the one that creates this part of the variable.
    errors = 'except (LookupError, TypeError, NameError):'
    return f'try:\n    {name}{place} = {value!r}\n{errors}\n    pass'


def _definer(path: Path, name: str) -> Path | None:
    """Return the last file, of a config and those it inherits, that assigns a variable."""
    tree = _parse(path)
    if name in _assigned(tree):
        return path
    for base in bases(path):
        found = _definer(base, name)
        if found is not None:
            return found
    return None


def bases(path: Path) -> list[Path]:
    """Return the files that a config inherits, except those of other packages."""
    statements = [item for item in _parse(path).body if '_base_' in _targets(item)]
    names = [name for statement in statements for name in _base_names(statement)]
    return [path.parent / name for name in names if '::' not in name]


@cache
def changed_settings(path: str, key: str) -> set[str]:
    """Return the settings that change if a variable of a config changes."""
    plain = _read_plain(path)
    value: Any = plain
    for part in key.split('.'):
        value = value[int(part) if isinstance(value, (list, tuple)) else part]
    before, after = _leaves(plain), _leaves(read_changed(path, {key: other_value(value)}))
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def other_value(value: Any) -> Any:
    """Return another value of the same type and shape, to find the settings that depend on it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, (list, tuple)):
        return type(value)(other_value(item) for item in value)
    if isinstance(value, dict):
        return {key: other_value(item) for key, item in value.items()}
    return f'{value}?'


def _leaves(cfg: Config) -> dict[str, Any]:
    """Return the values of all settings by their dotted keys."""
    return {
        key: value for name in cfg if name in settings() for key, value in _flatten(name, cfg[name])
    }


def _flatten(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        items = enumerate(value)
    else:
        yield key, value
        return
    for part, item in items:
        yield from _flatten(f'{key}.{part}', item)


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding='utf-8'), str(path))


def _targets(statement: ast.stmt) -> set[str]:
    """Return the variables that a statement assigns."""
    nodes = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    return {node.id for node in nodes if isinstance(node.ctx, ast.Store)}


def _assigned(tree: ast.Module) -> set[str]:
    return {name for statement in tree.body for name in _targets(statement)}


def _names(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _is_read(path: Path, name: str) -> bool:
    names = (node for node in ast.walk(_parse(path)) if isinstance(node, ast.Name))
    return any(node.id == name and isinstance(node.ctx, ast.Load) for node in names)


def _base_names(statement: ast.stmt) -> list[str]:
    value = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
    return [value] if isinstance(value, str) else list(value)
