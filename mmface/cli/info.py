# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Print versions, devices and operators, for example for a bug report."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module

from mmface.utils.cli import make_parser
from mmface.utils.config_files import config_dir, model_configs
from mmface.utils.environment import (
    check_mmdet,
    check_opencv,
    check_ops,
    installed,
    row,
    state_of,
    torch_devices,
    version_rows,
)
from mmface.utils.npu_report import print_report


def lines() -> list[str]:
    """List the environment, one row per line. A missing package does not stop the listing."""
    there = installed()
    rows = [*version_rows(), row('configs', f'{len(model_configs())} in {config_dir()}')]
    rows.append(row('opencv', state_of(check_opencv, 'works')))
    if 'onnxruntime' in there:
        providers = import_module('onnxruntime').get_available_providers()
        rows.append(row('ONNX runs on', ', '.join(providers)))
    else:
        rows.append(row('ONNX', 'needs onnxruntime: pip install "mmface[cpu]"'))
    if 'torch' not in there:
        return [*rows, row('training', 'needs torch and the mm packages: bash build_mmcv.sh')]
    devices: dict[str, str] = {}
    state = state_of(lambda: devices.update(torch_devices()), '')
    rows += [row('torch', state)] if state else [row(name, text) for name, text in devices.items()]
    kinds = dict.fromkeys(name.partition(':')[0] for name in devices)
    for kind in kinds if 'mmcv' in there else ():
        text = state_of(lambda kind=kind: check_ops(kind), f'nms runs on {kind}')  # type: ignore[misc]
        rows.append(row('mmcv.ops', text))
    if 'mmdet' in there:
        rows.append(row('mmdet', state_of(check_mmdet, 'works')))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Print the rows of the environment."""
    parser = make_parser(f'{__doc__}', 'mmface info')
    parser.add_argument(
        '--npu',
        action='store_true',
        help='report on Ascend NPUs: driver, CANN, torch_npu, cards, and what fails and why. Paste '
        'all of it into a report',
    )
    args = parser.parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if args.npu:
            print_report()
        else:
            print('\n'.join(lines()))
