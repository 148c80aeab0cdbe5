# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Time assignment, losses and their backward pass of SCRFD against mmdet's per-image path."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmface.utils.allocator import keep_freed_memory
from mmface.weights.convert import build_model
from mmface_benchmark.timing import Comparison, compare

OURS = 'mmface'
STOCK = 'stock mmdet'
_CONFIG = 'configs/scrfd/scrfd_10g.py'
_SIZE = 640


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``benchmark.py assign``."""
    add = parser.add_argument
    add('config', nargs='?', default=_CONFIG, help='SCRFD config without keypoints (%(default)s)')
    add('--batch-size', type=int, default=32, help='images (%(default)s)')
    add('--faces', type=int, nargs='+', default=[1, 30, 1000], help='per image (%(default)s)')
    add('--device', default='cpu', help='cpu (default) or cuda')


def run(args: argparse.Namespace) -> list[Comparison]:
    """Time each number of faces, and measure the peak memory of both ways."""
    ways = {
        faces: make_ways(args.config, args.batch_size, faces, args.device) for faces in args.faces
    }
    notes = {faces: _describe(each, args.device) for faces, each in ways.items()}
    # As tools/train.py does. Not earlier, because kept memory would hide the peaks above.
    keep_freed_memory()
    wait = torch.cuda.synchronize if args.device == 'cuda' else None
    task = f'assignment, losses, backward: batch {args.batch_size}, {{}} faces each'
    # At least one warm-up round; more would only be slow where a round takes seconds.
    return [
        compare(task.format(faces), each, args.rounds, 1, wait, notes[faces])
        for faces, each in ways.items()
    ]


def _describe(ways: dict[str, Callable[[], float]], device: str) -> dict[str, float | str]:
    notes: dict[str, float | str] = {f'loss, {name}': f'{way():.4f}' for name, way in ways.items()}
    for name, way in ways.items():
        notes[f'peak memory, {name}, MiB'] = round(_peak_memory(way, device), 1)
    return notes


def make_ways(
    config: str, batch_size: int, faces: int, device: str
) -> dict[str, Callable[[], float]]:
    """Return both ways to compute the losses for the same raw maps and faces, with backward pass.

    Raises:
        ValueError: The config is not an SCRFD, or it has keypoints, which mmdet does not support.
    """
    from mmface_benchmark.baseline_gfl import StockScrfdHead

    model: Any = build_model(Path(config)).to(device)
    head = model.bbox_head
    if type(head).__name__ != 'SCRFDHead' or head.num_keypoints:
        raise ValueError(f'{config}: expected an SCRFD config without keypoints (no _bnkps)')
    generator = head.prior_generator
    stock = StockScrfdHead(
        dict(
            type='AnchorGenerator',
            ratios=[1.0],
            scales=[1, 2],
            base_sizes=[16, 64, 256],
            strides=[stride[0] for stride in generator.strides],
        )
    ).to(device)
    maps, gt = _inputs(batch_size, faces, device)
    # Each finds the faces where its data preprocessor leaves them: on the host, on the device.
    there = [each.to(device) for each in gt]

    def ours() -> float:
        return _backward(head.loss_by_feat(*maps, [], gt), maps)

    def theirs() -> float:
        return _backward(stock.losses(*maps, there, (_SIZE, _SIZE)), maps)

    return {OURS: ours, STOCK: theirs}


def _inputs(
    batch_size: int, faces: int, device: str
) -> tuple[list[list[Tensor]], list[InstanceData]]:
    generator = torch.Generator().manual_seed(0)

    def level(channels: int, stride: int, shift: float) -> Tensor:
        shape = (batch_size, channels, _SIZE // stride, _SIZE // stride)
        values = torch.randn(shape, generator=generator) * 0.5 + shift
        return values.to(device).requires_grad_()

    maps = [
        [level(channels, stride, shift) for stride in (8, 16, 32)]
        for channels, shift in ((2, -4.0), (8, 2.0))
    ]
    gt = []
    for _ in range(batch_size):
        side = 6 + 250 * torch.rand(faces, 1, generator=generator).pow(4)
        corner = torch.rand(faces, 2, generator=generator) * (_SIZE - side)
        boxes = torch.cat([corner, corner + side * torch.tensor([0.8, 1.0])], dim=1)
        gt.append(InstanceData(bboxes=boxes, labels=torch.zeros(faces, dtype=torch.long)))
    return maps, gt


def _backward(losses: dict[str, list[Tensor]], maps: list[list[Tensor]]) -> float:
    for level in (level for row in maps for level in row):
        level.grad = None
    total = torch.stack([part for parts in losses.values() for part in parts]).sum()
    total.backward()
    return float(total.detach())


def _peak_memory(way: Callable[[], object], device: str) -> float:
    """Return the peak memory of one run, in MiB above the memory used before it."""
    if device == 'cuda':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        way()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    # Writing 5 resets the peak memory of the process (Linux, man 5 proc).
    Path('/proc/self/clear_refs').write_text('5')
    before = _status('VmHWM')
    way()
    return (_status('VmHWM') - before) / 1024


def _status(key: str) -> int:
    """Read a memory value of this process in KiB."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{key}:'):
            return int(line.split()[1])
    raise KeyError(key)
