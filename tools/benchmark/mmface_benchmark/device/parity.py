# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""One training step of each family on the device and on the CPU: same weights, same batch."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmface.apis.config import load_config
from mmface_benchmark.device.settings import Settings, use_exact_floats
from mmface_benchmark.step import make_batch

#: Largest difference of a loss from the CPU, relative to the loss.
TOLERANCE = 1e-4
FAMILIES = {
    'SCRFD': 'scrfd_500m_bnkps',
    'SCRFD with group norm': 'scrfd_10g',
    'CenterFace': 'centerface',
    'CenterNet2': 'centernet2_r50_wider_face',
    'CenterNet2 in fixed shapes': 'centernet2_r50_wider_face',
}
_QUICK = {
    'SCRFD with group norm': 'scrfd_500m',
    'CenterFace': 'centerface_small',
    'CenterNet2': 'centernet2_narrow_wider_face',
    'CenterNet2 in fixed shapes': 'centernet2_narrow_wider_face',
}


def run(settings: Settings) -> None:
    """Save the losses of both, and how much they and the gradients differ."""
    use_exact_floats()
    # Small, because the CPU of the machine takes most of the time of this section.
    size = settings.pick(224, 128)
    batch = make_batch(2, (size, size), 20)
    for family, config in ({**FAMILIES, **_QUICK} if settings.quick else FAMILIES).items():
        measure = partial(compare_config, config, 'fixed' in family, batch, settings.device)
        settings.part(family, measure)
        settings.check(family, 'loss_difference', TOLERANCE)


def compare_config(config: str, fixed_shape: bool, batch: dict, device: str) -> dict[str, Any]:
    """Compare a step of a config, see ``compare_step``."""
    return {
        'config': config,
        **compare_step(build(load_config(config), fixed_shape), batch, device),
    }


def build(cfg: Config, fixed_shape: bool) -> nn.Module:
    """Build the detector of a config with random weights that depend on nothing else.

    Args:
        cfg: Changed in place: RoIs are all taken, because devices draw other samples.
        fixed_shape: Whether a two-stage detector uses the code for NPUs.
    """
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    cfg.model.data_preprocessor.pad_size = None
    if 'roi_head' in cfg.model:
        cfg.model.train_cfg.rcnn.update(num_samples=10**4, pos_fraction=1.0)
        for head in ('rpn_head', 'roi_head'):
            cfg.model[head].fixed_shape = fixed_shape
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.train()


def compare_step(model: nn.Module, batch: dict, device: str) -> dict[str, Any]:
    """Run forward and backward pass on both devices and compare them.

    Returns:
        ``losses`` on the device and ``cpu_losses`` by name, ``loss_difference``, the largest
        relative difference of a loss, ``gradient_norm`` on the CPU and ``gradient_difference``,
        the norm of the difference relative to it.
    """
    expected, expected_gradients = losses_and_gradients(copy.deepcopy(model), batch)
    found, gradients = losses_and_gradients(copy.deepcopy(model).to(device), batch)
    norm = _norm(expected_gradients)
    difference = _norm([a - b for a, b in zip(gradients, expected_gradients, strict=True)])
    return {
        'losses': found,
        'cpu_losses': expected,
        'loss_difference': max(
            abs(found[name] - value) / max(abs(value), 1e-6) for name, value in expected.items()
        ),
        'gradient_norm': norm,
        'gradient_difference': difference / norm,
    }


def losses_and_gradients(model: nn.Module, batch: dict) -> tuple[dict[str, float], list[Tensor]]:
    """Return the losses of a step by name, and the gradients on the CPU."""
    samples = [sample.clone() for sample in batch['data_samples']]
    whole: Any = model
    data = whole.data_preprocessor(dict(inputs=batch['inputs'], data_samples=samples), True)
    total, parts = whole.parse_losses(whole(**data, mode='loss'))
    total.backward()
    # Accuracies are not losses: a score at the threshold counts or not.
    losses = {name: float(value.detach()) for name, value in parts.items() if 'loss' in name}
    gradients = [
        param.grad.cpu().double() for param in model.parameters() if param.grad is not None
    ]
    return losses, gradients


def _norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors))
