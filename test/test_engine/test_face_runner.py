# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Errors of the runner and its log."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmface.utils.checkpoint import load_checkpoint_file


@pytest.fixture
def trained(small_run):
    runner = small_run('first', epochs=1)
    runner.train()
    return Path(runner.work_dir) / 'epoch_1.pth'


def _log(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


def test_load_from__refuses_weights_that_fit_too_little(small_run, trained):
    weights = load_checkpoint_file(trained)['state_dict']
    partly = trained.with_name('partly.pth')
    torch.save({'net.0.weight': weights['net.0.weight'] * 0, 'head.x': torch.ones(1)}, partly)
    with pytest.raises(ValueError, match=r'the model \(7 of 8 keys not loaded\); .*allow_partial'):
        small_run('second', load_from=str(partly)).load_or_resume()
    runner = small_run('third', load_from=str(partly), allow_partial=True)
    runner.load_or_resume()
    assert torch.equal(runner.model.net[0].weight, torch.zeros(8, 8))
    assert 'of 9 keys 7 missing (net.0.bias, net.1.weight, net.1.bias,' in _log(runner)
    assert '1 not known to the model (head.x). Missing parameters keep' in _log(runner)
    none = trained.with_name('none.pth')
    torch.save({'head.x': torch.ones(1)}, none)
    with pytest.raises(ValueError, match='does not fit'):
        small_run('fourth', load_from=str(none), allow_partial=True).load_or_resume()


def test_resume__refuses_weights_only_and_another_model(small_run, trained):
    bare = trained.with_name('bare.pth')
    torch.save(load_checkpoint_file(trained)['state_dict'], bare)
    with pytest.raises(ValueError, match=r'holds weights only .* load_from'):
        small_run('second', resume=True, load_from=str(bare)).train()
    with pytest.raises(ValueError, match=r'of another shape \(net.0.bias .*\(8,\).*\(9,\)'):
        small_run('third', resume=True, load_from=str(trained), model={'width': 9}).train()


def test_log__config_goes_to_the_file_only(small_run, capfd):
    runner = small_run('run', epochs=1)
    runner.train()
    console = ''.join(capfd.readouterr())
    text = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert "type='DoorsNet'" in text
    assert "type='DoorsNet'" not in console
    assert 'Saving checkpoint at 1 epochs' in console


def test_train_again__warns_about_the_checkpoints_of_an_earlier_run(small_run, tmp_path):
    small_run('run', epochs=1).train()
    again = small_run('run', epochs=1)
    again.train()
    text = next((tmp_path / 'run' / again.timestamp).glob('*.log')).read_text()
    assert 'holds checkpoints of an earlier run, which this one replaces; --resume' in text
    new = small_run('new', epochs=1)
    new.train()
    assert 'earlier run' not in next((tmp_path / 'new' / new.timestamp).glob('*.log')).read_text()
