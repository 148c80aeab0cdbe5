# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The log history has only the length that the log needs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mmface.engine.hooks.bounded_history_hook import AT_LEAST

EPOCHS = 19  # 114 iterations


def _rows(runner):
    file = Path(runner.log_dir) / 'vis_data' / 'scalars.json'
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if not re.search('time|throughput', key)}
        for row in rows
    ]


def _lengths(runner):
    scalars = runner.message_hub.log_scalars
    return {key: len(buffer.data[0]) for key, buffer in scalars.items()}


@pytest.fixture
def train(small_run):
    def run(name, **options):
        hooks = {
            'logger': {'interval': 1},
            'checkpoint': {'interval': EPOCHS},
            **options.pop('default_hooks', {}),
        }
        options['train_cfg'] = {'val_interval': EPOCHS}
        runner = small_run(name, epochs=EPOCHS, default_hooks=hooks, **options)
        runner.train()
        return runner

    return run


def test_history__is_bounded_and_the_log_is_the_same(train):
    bounded = train('bounded')
    whole = train('whole', default_hooks={'history': None})
    assert max(_lengths(bounded).values()) == AT_LEAST
    assert _lengths(whole)['train/loss'] == 6 * EPOCHS
    assert _rows(bounded) == _rows(whole)


def test_history__checkpoints_stop_growing(train):
    hook = {'checkpoint': {'interval': 1, 'max_keep_ckpts': -1}}
    folder = Path(train('run', default_hooks=hook).work_dir)
    sizes = [(folder / f'epoch_{epoch}.pth').stat().st_size for epoch in (EPOCHS - 1, EPOCHS)]
    assert sizes[1] - sizes[0] < 300  # with mmengine alone, an iteration adds 130 to 160


def test_history__of_an_older_checkpoint_is_cut(train, small_run):
    whole = train('run', default_hooks={'history': None})
    resumed = small_run('run', epochs=EPOCHS + 1, resume=True)
    resumed.train()
    assert _lengths(whole)['train/loss'] == 6 * EPOCHS
    assert _lengths(resumed)['train/loss'] == AT_LEAST


def test_history__wide_windows_are_kept(train):
    windows = [
        {'data_src': 'loss', 'log_name': 'mean', 'method_name': 'mean', 'window_size': 110},
        {'data_src': 'lr', 'log_name': 'all', 'method_name': 'mean', 'window_size': 'global'},
    ]
    runner = train('run', log_processor={'custom_cfg': windows})
    lengths = _lengths(runner)
    assert lengths['train/loss'] == 110
    assert lengths['train/lr'] == 6 * EPOCHS
