# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Count the parameters and multiply-adds of a config, part by part."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from mmface.utils.cli import main_guard, make_parser
from mmface.utils.quiet import import_mmdet_quietly


def parse_args() -> argparse.Namespace:
    parser = make_parser(
        'Count parameters and multiply-adds (convolutions and linear layers) of each part of a '
        'detector, for pictures of several sizes. Published numbers of SCRFD are at 480 640.',
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
    return parser.parse_args()


def count_multiply_adds(model, size: tuple[int, int]) -> Counter[str]:
    """Count the multiply-adds of one picture by part of the model (its direct children)."""
    import torch
    from mmcv.ops import ModulatedDeformConv2d
    from torch import nn

    found: Counter[str] = Counter()
    hooks = []

    def counter(part: str):
        def count(module: Any, inputs: tuple, output: torch.Tensor) -> None:
            weights = module.weight[0].numel()  # of one output value, or one input value
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

    cfg = load_config(args.config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        line = first.ljust(widths[0])
        print(line + ''.join(f'  {x.rjust(w)}' for x, w in zip(others, widths[1:], strict=True)))


if __name__ == '__main__':
    main_guard(main)
