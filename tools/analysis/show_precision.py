# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""List the type of every parameter that a config trains."""

from __future__ import annotations

import argparse
from collections import Counter

from mmface.utils.cli import main_guard, make_parser
from mmface.utils.quiet import import_mmdet_quietly


def parse_args() -> argparse.Namespace:
    from mmengine.config import DictAction

    parser = make_parser(
        'List every parameter of a config with its shape, its type in the network and the type '
        'the optimizer updates it in.',
        'python tools/analysis/show_precision.py configs/scrfd/scrfd_10g_1p_o2.py',
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='config values'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import_mmdet_quietly()
    from mmdet.registry import MODELS, OPTIM_WRAPPERS
    from mmengine.registry import init_default_scope

    from mmface.apis.config import load_config
    from mmface.engine.master_weights import cast_to_half
    from mmface.engine.o2_optim_wrapper import O2OptimWrapper

    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    if OPTIM_WRAPPERS.get(cfg.optim_wrapper.type) is O2OptimWrapper:
        options = cfg.optim_wrapper
        cast_to_half(model, options.get('dtype', 'float16'), options.get('half_norms', False))
    rows = []
    for name, param in model.named_parameters():
        shape = 'x'.join(map(str, param.shape)) or 'scalar'
        updated = getattr(param, 'master', param)
        rows.append((name, shape, *(str(t.dtype).removeprefix('torch.') for t in (param, updated))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in [('parameter', 'shape', 'network', 'optimizer'), *rows]:
        print(
            '  '.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )
    for (inside, outside), count in Counter(row[2:] for row in rows).items():
        print(f'{count} parameters: {inside} in the network, updated in {outside}')


if __name__ == '__main__':
    main_guard(main)
