# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Versions, the card, and mmcv's operators on the device against those on the CPU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import mmcv.ops
import torch
from torch import Tensor

from mmface.models.task_modules.device_nms import batched_nms
from mmface.utils.environment import installed
from mmface_benchmark.device.settings import Settings, use_exact_floats

#: Largest difference of an operator from the CPU, relative to the largest value.
TOLERANCE = 1e-4


def run(settings: Settings) -> None:
    """Save the versions, and the difference of each operator from the CPU."""
    settings.save('packages', {**installed(), 'torch': torch.__version__})
    settings.save('python', platform.python_version())
    settings.save('cpus', os.cpu_count())
    settings.save('device', describe_device(settings.device))
    use_exact_floats()
    for name, operator in OPERATORS.items():
        measure = partial(largest_difference, operator, settings.device)
        settings.part(f'operator {name}', measure)
        settings.check(f'operator {name}', 'difference', TOLERANCE)


def describe_device(device: str) -> dict[str, Any]:
    """Return name, memory and driver of the device."""
    if device == 'cpu':
        return {'name': platform.processor() or platform.machine(), 'count': 1}
    backend = getattr(torch, device)
    found: dict[str, Any] = {'name': backend.get_device_name(0), 'count': backend.device_count()}
    if device == 'cuda':
        card = torch.cuda.get_device_properties(0)
        found |= {
            'memory_mib': card.total_memory // 2**20,
            'multiprocessors': card.multi_processor_count,
            'capability': f'{card.major}.{card.minor}',
            'cuda': torch.version.cuda,
            'cudnn': torch.backends.cudnn.version(),
        }
    if device == 'cuda' and shutil.which('nvidia-smi'):
        query = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
        done = subprocess.run(query, capture_output=True, text=True, timeout=30)
        found['driver'] = done.stdout.strip()
    return found


def largest_difference(operator: Callable[[str], list[Tensor]], device: str) -> dict[str, float]:
    """Return ``difference``, the largest between the results on a device and on the CPU.

    It is relative to the largest value of each result; infinite if shapes differ.
    """
    worst = 0.0
    for ours, expected in zip(operator(device), operator('cpu'), strict=True):
        ours = ours.detach().cpu()
        if ours.shape != expected.shape:
            return {'difference': float('inf')}
        scale = expected.abs().max().clamp(min=1e-6)
        worst = max(worst, float((ours - expected.detach()).abs().max() / scale))
    return {'difference': worst}


def _random(*shape: int, device: str, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator).to(device)


def _boxes(count: int, device: str) -> Tensor:
    corner = 500 * _random(count, 2, device=device)
    return torch.cat([corner, corner + 10 + 90 * _random(count, 2, device=device, seed=1)], dim=1)


def _nms(device: str) -> list[Tensor]:
    scores = _random(1000, device=device, seed=2)
    dets, kept = mmcv.ops.nms(_boxes(1000, device), scores, 0.45)
    return [dets, kept]


def _batched_nms(device: str) -> list[Tensor]:
    scores = _random(1000, device=device, seed=2)
    labels = (4 * _random(1000, device=device, seed=3)).long()
    options = dict(type='nms', iou_threshold=0.45)
    return list(batched_nms(_boxes(1000, device), scores, labels, options))


def _roi_align(device: str) -> list[Tensor]:
    maps = _random(2, 8, 64, 64, device=device).requires_grad_()
    image = (torch.arange(64, device=device) % 2).float()[:, None]
    rois = torch.cat([image, _boxes(64, device)], dim=1)
    pooled = mmcv.ops.roi_align(maps, rois, 7, 0.125, 0, 'avg', True)
    pooled.square().sum().backward()
    assert maps.grad is not None
    return [pooled, maps.grad]


def _deformable(device: str) -> list[Tensor]:
    maps = _random(2, 8, 20, 20, device=device).requires_grad_()
    weight = _random(12, 8, 3, 3, device=device, seed=1).requires_grad_()
    offset = 2 * _random(2, 18, 20, 20, device=device, seed=2) - 1
    mask = _random(2, 9, 20, 20, device=device, seed=3)
    out = mmcv.ops.modulated_deform_conv2d(maps, offset, mask, weight, None, 1, 1, 1, 1, 1)
    out.square().sum().backward()
    assert maps.grad is not None and weight.grad is not None
    return [out, maps.grad, weight.grad]


def _convolution(device: str) -> list[Tensor]:
    module = torch.nn.Conv2d(16, 32, 3, padding=1)
    with torch.no_grad():
        module.weight.copy_(_random(32, 16, 3, 3, device='cpu', seed=1) - 0.5)
        module.bias.zero_()  # type: ignore[union-attr]
    return [module.to(device)(_random(2, 16, 40, 40, device=device))]


#: Operators of mmcv that the networks use, and torch's convolution.
OPERATORS: dict[str, Callable[[str], list[Tensor]]] = {
    'nms': _nms,
    'batched_nms': _batched_nms,
    'roi_align': _roi_align,
    'modulated_deform_conv2d': _deformable,
    'conv2d': _convolution,
}
