# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A checkpoint is data: it runs nothing and does not decide which files are removed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local

from mmface.engine.resumed_state import confine_removals, take_config_texts
from mmface.utils.checkpoint import load_checkpoint_file


class Touch:
    """Replaces code in a pickle: creates a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def checkpoint(train_and_kill, tmp_path):
    """Return path and content of a checkpoint after epoch 1 of 3, in the folder 'run'."""
    train_and_kill('run', kill_at=8)
    path = tmp_path / 'run' / 'epoch_1.pth'
    return path, load_checkpoint_file(path)


def live_config(marker: Path) -> str:
    """Return a config whose evaluation creates a file, as `Config.fromstring` shows."""
    text = f'open({str(marker)!r}, "w").close()\nmodel = 1\n'
    Config.fromstring(text, '.py')
    marker.unlink()
    return text


@pytest.mark.parametrize('place', ['config', 'cfg', 'hub'])
def test_resume__does_not_evaluate_configs(place, checkpoint, small_run, tmp_path):
    path, content = checkpoint
    marker = tmp_path / 'ran'
    text = live_config(marker)
    target = content['message_hub']['runtime_info'] if place == 'hub' else content['meta']
    target['cfg' if place == 'hub' else place] = text
    torch.save(content, path)
    runner = small_run('run', resume=True, load_from=str(path))
    runner.train()
    assert runner.iter == 18
    assert not marker.exists()
    (note,) = (tmp_path / 'run').glob('*/resumed_config.txt')
    assert text in note.read_text()
    # It is not passed on in the checkpoints of this run either.
    last = load_checkpoint_file(tmp_path / 'run' / 'epoch_3.pth')
    assert all(text != saved for saved in take_config_texts(last).values())


@pytest.mark.parametrize('use', ['resume', 'load_from', 'init_cfg'])
def test_face_runner__refuses_code_whoever_builds_it(
    use, checkpoint, small_run, tmp_path, monkeypatch
):
    path, content = checkpoint
    marker = tmp_path / 'ran'
    content['meta']['note'] = Touch(marker)
    torch.save(content, path)
    # As in a program that uses the runner without mmface's tools.
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    options = {'load_from': str(path), 'resume': use == 'resume'}
    if use == 'init_cfg':
        options = {'model.init_cfg': {'type': 'Pretrained', 'checkpoint': str(path)}}
    with pytest.raises(ValueError, match='could run code'):
        small_run('run', **options).train()
    assert not marker.exists()


@pytest.mark.parametrize(
    ('named', 'removed'),
    [
        ('run/best_mean_epoch_0.pth', True),
        ('moved/best_mean_epoch_0.pth', True),  # found by its name in the folder of the run
        ('run/notes.pth', False),
        ('best_mean_elsewhere.pth', False),
    ],
)
def test_resume__removes_only_own_checkpoints(named, removed, checkpoint, small_run, tmp_path):
    path, content = checkpoint
    own = tmp_path / 'run' / 'best_mean_epoch_0.pth'
    strange = [tmp_path / 'run' / 'notes.pth', tmp_path / 'best_mean_elsewhere.pth']
    for file in (own, *strange):
        file.touch()
    content['message_hub']['runtime_info'].update(
        best_score=-1.0, best_ckpt=str(tmp_path / named), keep_ckpt_ids=['../x', '2', '3']
    )
    torch.save(content, path)
    small_run(
        'run',
        resume=True,
        load_from=str(path),
        **{
            'default_hooks.checkpoint.save_best': 'mean',
            'default_hooks.checkpoint.rule': 'greater',
            'default_hooks.checkpoint.max_keep_ckpts': 2,
        },
    ).train()
    assert own.exists() != removed
    assert all(file.exists() for file in strange)
    assert (tmp_path / 'run' / 'epoch_3.pth').exists()


def test_confine_removals__leaves_what_mmengine_writes(tmp_path):
    best = tmp_path / 'best_wider_face_hard_epoch_3.pth'
    best.touch()
    info = {'best_ckpt': str(best), 'best_score': 0.5, 'keep_ckpt_ids': [2, 3]}
    content = {'message_hub': {'runtime_info': dict(info)}}
    assert confine_removals(content, [tmp_path]) == []
    assert content['message_hub']['runtime_info'] == info


@pytest.mark.parametrize('key', ['best_ckpt', 'best_ckpt_mean', 'preemption_ckpt'])
def test_confine_removals__every_entry_that_names_a_file_to_remove(key, tmp_path):
    (tmp_path / 'run').mkdir()
    names = {'best_ckpt': 'best_x.pth', 'best_ckpt_mean': 'best_x.pth'}
    own = tmp_path / 'run' / names.get(key, 'iter_7.pth')
    strange = [tmp_path / own.name, tmp_path / 'run' / 'notes.txt', tmp_path / 'run' / '..']
    own.touch()
    for value in (*map(str, strange[1:]), 7, ['x'], ''):
        content = {'message_hub': {'runtime_info': {key: value}}}
        assert len(confine_removals(content, [tmp_path / 'run'])) == 1
        assert key not in content['message_hub']['runtime_info']
    content = {'message_hub': {'runtime_info': {key: str(strange[0])}}}
    assert confine_removals(content, [tmp_path / 'run']) == []
    assert content['message_hub']['runtime_info'][key] == str(own)


@pytest.mark.parametrize(
    ('part', 'key', 'value'),
    [
        ('meta', 'epoch', '1'),
        ('meta', 'iter', -1),
        ('meta', 'iter', True),
        ('meta', 'seed', 'x'),
        ('message_hub', 'log_scalars', None),
        ('message_hub', 'runtime_info', []),
    ],
)
def test_resume__names_numbers_that_are_none(part, key, value, checkpoint, small_run, tmp_path):
    path, content = checkpoint
    content[part][key] = value
    torch.save(content, path)
    with pytest.raises(ValueError, match=r'epoch_1\.pth is not a checkpoint that a run') as caught:
        small_run('run', resume=True, load_from=str(path)).train()
    assert (f'{part}.{key}' if part == 'meta' else part) in str(caught.value)
