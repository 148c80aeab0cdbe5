# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read the flags of the Ascend model zoo's scripts (``test/train_*.sh``).

Prints shell assignments for ``test/_entry_point.sh``. Imports neither torch nor the mm packages, so
that a wrong flag or path is noticed at once.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmface.utils.config_files import model_configs
from mmface.utils.data_root import find_data_root

#: Flags and what their value must look like.
_COUNT, _TEXT, _SWITCH = r'[1-9]\d*', r'.+', ''
COMMON = {'network': _TEXT, 'data_path': _TEXT, 'device_list': r'\d+(,\d+)*', 'work_dir': _TEXT}
COMMON['output_dir'] = _TEXT
TRAIN = {
    'batch_size': _COUNT,
    'num_epochs': _COUNT,
    'lr': r'\d*\.?\d+([eE][-+]?\d+)?',
    'lr_step': r'\d+([, ]\d+)*',
    'precision': r'(?i:o1|o2|fp32)',
    'pretrained': _TEXT,
    'from_scratch': _SWITCH,
    'seed': r'\d+',
    'no_validate': _SWITCH,
    'perf': _SWITCH,
}
EVAL = {'ckpt': _TEXT}
RANKS = {'world_size': _COUNT, 'port': _COUNT, 'master_addr': _TEXT}
#: Other names of flags in the old documents.
ALIASES = {
    'master_port': 'port',
    'per_batch_size': 'batch_size',
    'max_epoch': 'num_epochs',
    'lr_epochs': 'lr_step',
    'pretrained_backbone': 'pretrained',
    'data_dir': 'data_path',
    'device_id': 'device_list',
    'config_file': 'network',
    'checkpoint': 'ckpt',
    'pth_path': 'ckpt',
}
#: Flags of the old documents that have no counterpart, and what to use.
REPLACED = {
    'local_rank': 'the script sets the rank of each process itself; leave it out',
    'fp32': 'use --precision=fp32',
    'precision_mode': 'a setting of CANN; use --precision=o1, o2 or fp32',
    'num_machines': 'set NNODES, NODE_RANK and MASTER_ADDR in the environment',
    'eval_only': 'use test/train_eval_1p.sh',
    'is_distributed': 'use train_full_1p.sh or train_full_8p.sh',
    'rank_table': 'none is needed; devices are named with --device_list',
    't_max': 'set it in a config: param_scheduler',
    'warmup_epochs': 'set it in a config: param_scheduler',
    'lr_scheduler': 'set it in a config: param_scheduler',
    'lr_gamma': 'give it to tools/train.py behind --: -- --cfg-options drops.gamma=0.1',
    'weight_decay': 'give it behind --: -- --cfg-options optim_wrapper.optimizer.weight_decay=0',
    'loss_scale': 'give it with --precision=o1 or o2, and behind --: -- --cfg-options '
    'optim_wrapper.loss_scale=128.0',
    'annot_path': 'the labels lie in --data_path; tools/data/prepare_widerface.py puts them there',
    'img_dir': 'the images lie in --data_path; tools/data/prepare_widerface.py puts them there',
}
REPLACED |= dict.fromkeys(
    ('task_set', 'task_set_core'), 'set OMP_NUM_THREADS, the number of cores for each process'
)
REPLACED |= dict.fromkeys(
    ('ground_truth_mat', 'save_dir', 'test_model', 'ckpt_name', 'rank', 'device_num'),
    'use test/train_eval_1p.sh with --data_path and --ckpt, or tools/test.py with --save-txt',
)
REPLACED |= dict.fromkeys(
    ('start', 'end', 'steps_per_epoch'),
    'tools/evaluation/sweep_checkpoints.py CONFIG WORK_DIR tests the checkpoints of a run; it has '
    '--start and --end',
)
#: Name of the last checkpoint in the old documents, by folder of the config.
FAMILIES = {'centerface': 'CenterFace', 'centernet2': 'CenterNet2', 'scrfd': 'SCRFD'}
LAST_NAMES = {'centerface': 'checkpoint.pth.tar', 'centernet2': 'model_final.pth'}


class Recipe(NamedTuple):
    """A config for a number of cards.

    Attributes:
        config: Its file.
        name: The network in the summary.
    """

    config: Path
    name: str


def recipes(cards: int) -> dict[str, Path]:
    """Return the configs for ``cards`` cards by network.

    ``NAME_8p_o1.py`` is preferred to ``NAME_8p_o2.py`` and that to ``NAME_8p.py``: where an old
    document trains in O1, there is such a config. On one card, a config without a recipe for cards
    is its own.
    """
    found: dict[str, Path] = {}
    for suffix in (f'_{cards}p_o1', f'_{cards}p_o2', f'_{cards}p', *(('',) if cards == 1 else ())):
        for file in model_configs():
            name = _plain(file.stem)
            if file.stem == name + suffix:
                found.setdefault(name, file)
    return found


def find_recipe(network: str, cards: int, precision: str = '') -> Recipe:
    """Return the config of a network.

    Args:
        network: Its name, or the path of a config.
        cards: 1 or 8.
        precision: A recipe with this precision is preferred; any precision if empty.

    Raises:
        FileNotFoundError: There is no such config.
    """
    if network.endswith('.py'):
        config = Path(network)
        if not config.is_file():
            raise FileNotFoundError(f'--network={network}: this config does not exist')
        return Recipe(config, _plain(config.stem))
    known = recipes(cards)
    exact = {file.stem: file for file in model_configs()}
    chosen = exact.get(f'{network}_{cards}p_{precision}') or known.get(network)
    if chosen is None:
        raise FileNotFoundError(
            f'no network {network} for {cards} card(s): available are {" ".join(sorted(known))}, '
            'or name the path of a config'
        )
    return Recipe(chosen, network)


def _plain(name: str) -> str:
    """Return the name of a config without cards and precision."""
    return re.sub(r'_[18]p(_o[12])?$', '', name)


def split_flags(argv: Sequence[str], known: dict[str, str]) -> dict[str, str]:
    """Return the flags with their values.

    ``--batch-size=8``, ``--batch_size 8`` and ``--batch_size=8`` are the same.

    Raises:
        ValueError: A flag is unknown, has no value, or a value that it cannot have.
    """
    flags: dict[str, str] = {}
    rest = list(argv)
    while rest:
        given = rest.pop(0)
        name, equals, value = given.partition('=')
        name = name.removeprefix('--').replace('-', '_')
        name = ALIASES.get(name, name)
        if not given.startswith('--') or name in REPLACED:
            why = REPLACED.get(name, 'flags are written --flag=value')
            raise ValueError(f'{given}: {why}')
        if name not in known:
            raise ValueError(
                f'unknown flag {given}; this script knows {" ".join(known)} (--help says more). '
                'Options of tools/train.py go behind --'
            )
        if known[name] == _SWITCH:
            flags[name] = '1'
            continue
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith('--') else ''
        if not re.fullmatch(known[name], value):
            raise ValueError(f'--{name}={value}: expected {_describe(known[name])}')
        flags[name] = value
    return flags


def _describe(pattern: str) -> str:
    kinds = {
        _COUNT: 'a whole number from 1',
        _TEXT: 'a value',
        TRAIN['lr']: 'a number',
        TRAIN['lr_step']: 'numbers with commas between, such as 90,120',
        TRAIN['precision']: 'o1, o2 or fp32',
        TRAIN['seed']: 'a whole number from 0',
        COMMON['device_list']: 'numbers with commas between, such as 0,1',
    }
    return kinds[pattern]


def settings(kind: str, cards: int, argv: Sequence[str]) -> dict[str, str | list[str]]:
    """Return the shell variables of a script.

    Args:
        kind: ``full``, ``perf`` or ``eval``.
        cards: 1 or 8.
        argv: The flags of the script.

    Raises:
        FileNotFoundError: The data set or the config is not there.
        ValueError: A flag is wrong.
    """
    argv = list(argv)
    at = argv.index('--') if '--' in argv else len(argv)
    known = {**COMMON, **(EVAL if kind == 'eval' else TRAIN), **(RANKS if cards > 1 else {})}
    flags = split_flags(argv[:at], known)
    if 'data_path' not in flags:
        raise ValueError('the data set is missing: give its folder with --data_path=DIR')
    data_path = find_data_root(flags['data_path'])
    precision = flags.get('precision', '').lower()
    recipe = find_recipe(flags.get('network', 'scrfd_10g'), cards, precision)
    found: dict[str, str | list[str]] = {
        **{name: flags.get(name, '') for name in known if name != 'output_dir'},
        'config': str(recipe.config.resolve()),
        'network': recipe.name,
        'data_path': data_path,
        'precision': precision,
        'family': FAMILIES.get(recipe.config.resolve().parent.name, recipe.name),
        'last_name': LAST_NAMES.get(recipe.config.resolve().parent.name, ''),
        'extra': argv[at + 1 :],
        **({'output_dir': flags['output_dir']} if 'output_dir' in flags else {}),
    }
    if 'perf' in flags:
        found['kind'] = 'perf'
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Print the settings as shell assignments, or the names of the networks."""
    kind, cards, *flags = sys.argv[1:] if argv is None else argv
    if kind == 'networks':
        print(' '.join(sorted(recipes(int(cards)))))
        return
    for name, value in settings(kind, int(cards), flags).items():
        if isinstance(value, list):
            print(f'{name}=({" ".join(map(shlex.quote, value))})')
        else:
            print(f'{name}={shlex.quote(value)}')


if __name__ == '__main__':
    from mmface.utils.cli import main_guard

    main_guard(main)
