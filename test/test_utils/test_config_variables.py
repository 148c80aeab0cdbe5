# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Options can change the variables of a config; otherwise a warning names the right setting."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmface.apis.config import load_config
from mmface.utils.config_variables import (
    bases,
    explain_without_effect,
    other_value,
    read_changed,
)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
ALL = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob('*.py'))
HEADER = re.compile(r'^# -+ Often modified -+\n(.*?)(?:^# -+ |\Z)', re.MULTILINE | re.DOTALL)
#: Settings that a run reads. Every other name at the top level of a config is a variable.
SETTINGS = {
    'model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator',
    'test_evaluator', 'train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'param_scheduler',
    'auto_scale_lr', 'default_hooks', 'load_from', 'resume', 'randomness', 'visualizer',
    'tta_model', 'tta_pipeline',
}  # fmt: skip


def often_modified(path: Path) -> set[str]:
    """Return the variables in the headers of a config and of those it inherits."""
    names = {
        node.id
        for block in HEADER.findall(path.read_text())
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return names.union(*map(often_modified, bases(path)))


def settings(cfg: Config) -> dict:
    return {key: value for key, value in cfg.to_dict().items() if key in SETTINGS}


def value_at(cfg: Config, key: str):
    for part in key.split('.'):
        cfg = cfg[int(part) if isinstance(cfg, (list, tuple)) else part]
    return cfg


@pytest.mark.parametrize('name', ALL)
def test_every_variable_of_a_header__acts_or_names_what_does(name):
    path = CONFIGS / name
    variables = often_modified(path)
    if not name.startswith('_base_'):
        assert {'load_from', 'data_root', 'batch_size', 'base_lr'} <= variables
    plain = Config.fromfile(path, import_custom_modules=False)
    for variable in sorted(variables):
        message = explain_without_effect(path, variable)
        changed = read_changed(str(path), {variable: other_value(plain[variable])})
        if settings(changed) == settings(plain):
            assert message is not None, f'{variable} changes nothing and no message says so'
            assert 'changes nothing' in message
        for key in re.findall(r'[\w.]+\.[\w.]+', message or ''):  # each exists with the same value
            assert value_at(changed, key) == value_at(plain, key)


def test_changed_variable__reaches_all_that_is_computed_from_it():
    options = {'image_size': [320, 320], 'max_epochs': 3, 'base_lr': 0.5, 'data_root': 'faces/'}
    cfg = load_config(str(CONFIGS / 'scrfd/scrfd_500m_bnkps.py'), options)
    assert cfg.image_size == (320, 320)  # options of the command line are lists
    assert cfg.train_dataloader.dataset.pipeline[2]['size'] == 320
    assert cfg.val_dataloader.dataset.pipeline[1]['scale'] == (320, 320)
    assert cfg.model.data_preprocessor.pad_size == (320, 320)
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 3
    assert cfg.optim_wrapper.optimizer.lr == 0.5
    assert cfg.val_evaluator.gt_dir == 'faces/val/gt'
    assert cfg.filename.endswith('configs/scrfd/scrfd_500m_bnkps.py')


def test_step__is_changed_by_its_name():
    toy = str(CONFIGS / 'scrfd/scrfd_500m_bnkps_toy.py')
    cfg = load_config(toy, {'train_steps.crop.size': 96, 'image_size': (64, 64)})
    crop = cfg.train_dataloader.dataset.pipeline[2]
    assert (crop['type'], crop['size']) == ('RandomSquareCrop', 96)  # the more specific option
    assert cfg.test_dataloader.dataset.pipeline[1]['scale'] == (64, 64)


def test_variable_without_effect__is_named_with_the_key_that_acts(capfd):
    config = str(CONFIGS / 'scrfd/scrfd_500m_bnkps.py')
    MMLogger.get_instance('variables', logger_name='variables')  # writes to this test's stderr
    cfg = load_config(config, {'batch_size': 4})
    assert cfg.train_dataloader.batch_size == 16
    told = ''.join(capfd.readouterr())
    assert 'batch_size' in told
    assert 'train_dataloader.batch_size' in told
    both = {'batch_size': 4, 'train_dataloader.batch_size': 4}
    assert load_config(config, both).train_dataloader.batch_size == 4
    assert 'changes nothing' not in ''.join(capfd.readouterr())


def test_part_that_does_not_change__is_named():
    message = explain_without_effect(CONFIGS / 'scrfd/scrfd_500m_bnkps.py', 'num_workers')
    assert 'train_dataloader.num_workers' in message
    assert 'val_dataloader' not in message


def test_config_of_a_user__inherits_and_changes(tmp_path):
    """Relative bases, bases in a list, text that mmengine replaces, a variable of its own."""
    (tmp_path / 'base').mkdir()
    (tmp_path / 'base/a.py').write_text('side = 3\ntrain_cfg = dict(side=side, twice=2 * side)\n')
    (tmp_path / 'base/b.py').write_text("names = ('a',)\nmodel = dict(classes=len(names))\n")
    child = tmp_path / 'child.py'
    child.write_text(
        "_base_ = ['base/a.py', './base/b.py']\n"
        "work_dir = '{{ fileDirname }}/{{ fileBasenameNoExtension }}'\n"
        'epochs = 2\nval_cfg = dict(begin=epochs, side=_base_.side)\n'
        'test_cfg = dict(side={{_base_.side}})\n'
    )
    plain = load_config(str(child))
    cfg = load_config(str(child), {'side': 5, 'epochs': 7, 'val_cfg.more': 1, 'new': 4})
    assert cfg.train_cfg == dict(side=5, twice=10)
    assert cfg.val_cfg == dict(begin=7, side=5, more=1)
    assert cfg.test_cfg == dict(side=5)
    assert cfg.work_dir == plain.work_dir == f'{tmp_path}/child'
    assert (cfg.model, cfg.new, cfg.text) == (plain.model, 4, plain.text)


def test_variable_that_breaks_the_config__is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=r'scrfd_500m_bnkps\.py'):
        load_config(str(CONFIGS / 'scrfd/scrfd_500m_bnkps.py'), {'image_size': 320})


def edits_by_position(path: Path) -> list[str]:
    """Return the statements that change an item of a list by its index."""
    found = []
    for statement in ast.parse(path.read_text()).body:
        places: list[ast.AST] = list(getattr(statement, 'targets', []))
        if isinstance(statement, ast.AugAssign):
            places.append(statement.target)
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            places.append(statement.value.func)
        if any(isinstance(node, ast.Subscript) for place in places for node in ast.walk(place)):
            found.append(f'{path.name}: {ast.unparse(statement)}')
    return found


def test_no_config_edits_by_position(tmp_path):
    bad = tmp_path / 'bad.py'
    bad.write_text('a[2].update(x=1)\na[1] = 2\na[3:4] = [1]\na[0].b = 1\na[0] += 1\nb = a[0]\n')
    assert len(edits_by_position(bad)) == 5
    assert [edit for name in ALL for edit in edits_by_position(CONFIGS / name)] == []
