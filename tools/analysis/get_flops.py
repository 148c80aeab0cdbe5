# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Count the parameters and multiply-adds of a config, or list the dtypes of its parameters."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmface.utils.cli import main_guard, make_parser
from mmface.utils.quiet import import_mmdet_quietly


def parse_args() -> argparse.Namespace:
    from mmengine.config import DictAction

    parser = make_parser(
        'Count parameters and multiply-adds (convolutions and linear layers) of each part of a '
        'detector, for images of several sizes. Published numbers of SCRFD are for --size 480 640.',
        'python tools/analysis/get_flops.py configs/scrfd/scrfd_10g.py --size 480 640',
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        action='append',
        metavar=('H', 'W'),
        help='height and width, multiples of 32; may be given several times '
        '(default: 480 640, 640 640 and 800 800)',
    )
    parser.add_argument(
        '--precision',
        action='store_true',
        help='instead, list every parameter with its shape, its dtype in the network and the dtype '
        'in which the optimizer updates it',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='config values'
    )
    return parser.parse_args()


def count_multiply_adds(model, size: tuple[int, int]) -> Counter[str]:
    """Count the multiply-adds for one image, per part of the model (its direct children)."""
    import torch
    from mmcv.ops import ModulatedDeformConv2d
    from torch import nn

    found: Counter[str] = Counter()
    hooks = []

    def counter(part: str):
        def count(module: Any, inputs: tuple, output: torch.Tensor) -> None:
            weights = module.weight[0].numel()  # per output value, or per input value
            values = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
            found[part] += values.numel() * weights

        return count

    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, ModulatedDeformConv2d)
    for part, child in model.named_children():
        for module in child.modules():
            if isinstance(module, layers):
                hooks.append(module.register_forward_hook(counter(part)))
    with torch.no_grad():
        model(torch.zeros(1, 3, *size), mode='tensor')
    for hook in hooks:
        hook.remove()
    return found


def print_table(rows: Sequence[Sequence[str]], align: str) -> None:
    """Print ``rows``. The columns after the first are aligned to ``<`` or ``>``."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f'{text:{align if i else "<"}{widths[i]}}' for i, text in enumerate(row))
        print('  '.join(cells).rstrip())


def print_counts(model, sizes: Sequence[tuple[int, int]]) -> None:
    """Print parameters and multiply-adds of each part of ``model``."""
    model.eval()
    counts = [count_multiply_adds(model, size) for size in sizes]
    rows = [('part', 'parameters', *(f'{h}x{w}' for h, w in sizes))]
    for part, child in model.named_children():
        parameters = sum(parameter.numel() for parameter in child.parameters())
        if parameters:
            macs = [f'{count[part] / 1e9:.3f} G' for count in counts]
            rows.append((part, f'{parameters:,}', *macs))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    totals = [f'{sum(count.values()) / 1e9:.3f} G' for count in counts]
    rows.append(('whole', f'{parameters:,}', *totals))
    print_table(rows, '>')


def print_types(model, optim_wrapper: dict[str, Any]) -> None:
    """Print the dtype of every parameter of ``model`` in the network and in the optimizer."""
    from mmdet.registry import OPTIM_WRAPPERS

    from mmface.engine.master_weights import cast_to_half
    from mmface.engine.o2_optim_wrapper import O2OptimWrapper

    if OPTIM_WRAPPERS.get(optim_wrapper['type']) is O2OptimWrapper:
        dtype = optim_wrapper.get('dtype', 'float16')
        cast_to_half(model, dtype, optim_wrapper.get('half_norms', False))
    rows = []
    for name, param in model.named_parameters():
        shape = 'x'.join(map(str, param.shape)) or 'scalar'
        updated = getattr(param, 'master', param)
        rows.append((name, shape, *(str(t.dtype).removeprefix('torch.') for t in (param, updated))))
    print_table([('parameter', 'shape', 'network', 'optimizer'), *rows], '<')
    for (inside, outside), count in Counter(row[2:] for row in rows).items():
        print(f'{count} parameters: {inside} in the network, updated in {outside}')


def main() -> None:
    args = parse_args()
    sizes = [tuple(size) for size in args.size or ((480, 640), (640, 640), (800, 800))]
    for size in sizes:
        if any(side < 32 or side % 32 for side in size):
            raise ValueError(f'--size {size[0]} {size[1]}: expected multiples of 32')
    import_mmdet_quietly()
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from mmface.apis.config import load_config

    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    if args.precision:
        print_types(model, cfg.optim_wrapper)
    else:
        print_counts(model, sizes)


if __name__ == '__main__':
    main_guard(main)
