# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Flags of the old documents reach the config that their document describes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmface.utils.data_root import find_data_root
from mmface.utils.entry_point import find_recipe, recipes, settings


@pytest.mark.parametrize(
    ('network', 'cards', 'precision', 'stem'),
    [
        ('centerface', 1, '', 'centerface_1p_o1'),
        ('centerface', 8, '', 'centerface_8p_o1'),
        ('centerface', 8, 'o2', 'centerface_8p_o2'),
        ('centerface', 8, 'fp32', 'centerface_8p_o1'),
        ('centernet2_r50_1x', 8, '', 'centernet2_r50_1x_8p_o1'),
        ('centernet2_r50_1x', 1, 'o2', 'centernet2_r50_1x_1p_o2'),
        ('scrfd_10g', 8, '', 'scrfd_10g_8p_o2'),
        ('scrfd_10g', 1, 'o1', 'scrfd_10g_1p_o2'),
        ('centerface_mindspore', 1, '', 'centerface_mindspore'),
        ('centerface_mindspore', 8, '', 'centerface_mindspore_8p'),
    ],
)
def test_find_recipe__is_that_of_the_document(network, cards, precision, stem):
    assert find_recipe(network, cards, precision).config.stem == stem


@pytest.mark.parametrize('cards', [1, 8])
def test_recipes__has_every_scrfd(repo, cards):
    plain = {f.stem for f in (repo / 'configs/scrfd').glob('scrfd_*.py')}
    sizes = {s for s in plain if not s.endswith(('_o2', '_toy', '_finetune'))}
    assert len(sizes) >= 10
    found = recipes(cards)
    assert {found[size].stem for size in sizes} == {f'{size}_{cards}p_o2' for size in sizes}


@pytest.mark.parametrize(
    'flags',
    [
        ['--data_path={}', '--batch_size=4', '--num_epochs=2', '--device_list=0'],
        ['--data-path={}', '--batch-size=4', '--num-epochs=2', '--device-list=0'],
        ['--data_path', '{}', '--batch-size', '4', '--num_epochs', '2', '--device_list', '0'],
        ['--data_dir={}', '--per_batch_size=4', '--max_epoch=2', '--device_id=0'],
    ],
)
def test_settings__spellings_are_equal(flags, tmp_path):
    found = settings('full', 1, [flag.format(tmp_path) for flag in flags])
    wanted = dict(data_path=str(tmp_path), batch_size='4', num_epochs='2', device_list='0')
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ('flag', 'remedy'),
    [
        ('--task_set=1', 'OMP_NUM_THREADS'),
        ('--loss-scale=1024', '--precision=o1 or o2, and behind --'),
        ('--ground_truth_mat=val.mat', 'tools/test.py'),
        ('--start=89', 'sweep_checkpoints.py'),
        ('--num-machines=1', 'NNODES'),
        ('--eval-only', 'train_eval_1p.sh'),
    ],
)
def test_settings__flag_without_a_counterpart_names_what_to_use(flag, remedy, tmp_path):
    with pytest.raises(ValueError, match=re.escape(remedy)):
        settings('full', 1, [f'--data_path={tmp_path}', flag])


def test_settings__arguments_behind_dashes_go_to_the_tool(tmp_path):
    rest = ['--cfg-options', 'a.b=1', "c='x y'"]
    found = settings('perf', 8, [f'--data_path={tmp_path}', '--master_port=1', '--', *rest])
    assert found['extra'] == rest
    assert found['port'] == '1'
    assert found['precision'] == ''


def test_main__is_quoted_for_the_shell_and_imports_no_torch(repo, tmp_path):
    folder = tmp_path / "a 'b' $(touch no)"
    folder.mkdir()
    code = (
        'import sys; from mmface.utils.entry_point import main; main(sys.argv[1:]); '
        'assert not {"torch", "mmengine", "numpy"} & set(sys.modules)'
    )
    text = subprocess.run(
        [sys.executable, '-c', code, 'full', '1', f'--data_path={folder}'],
        capture_output=True, text=True, check=True, cwd=repo,
    ).stdout  # fmt: skip
    shell = f'{text}\nprintf %s "$data_path"'
    done = subprocess.run(['bash', '-c', shell], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == str(folder)
    assert not (tmp_path / 'no').exists()


def test_find_data_root__one_level_above(tmp_path):
    (tmp_path / 'coco2017/annotations').mkdir(parents=True)
    assert find_data_root(tmp_path) == str(tmp_path / 'coco2017')
    assert find_data_root(tmp_path / 'coco2017') == str(tmp_path / 'coco2017')
    (tmp_path / 'train').mkdir()
    assert find_data_root(tmp_path) == str(tmp_path)
    with pytest.raises(FileNotFoundError, match='prepare_widerface'):
        find_data_root(Path(tmp_path / 'no'))
