# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Training steps in float32, O1 and O2: images a second, memory, and how busy the device is."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import torch
from mmengine.config import Config

from mmface.apis.config import load_config, set_precision
from mmface.cli.train import PRECISIONS
from mmface.utils.config_files import config_path
from mmface_benchmark.device.busy import BusyTimer
from mmface_benchmark.device.settings import CheckError, Settings, pinned
from mmface_benchmark.step import make_batch, make_step
from mmface_benchmark.timing import compare


def run(settings: Settings) -> None:
    """Save a row for each batch size and precision."""
    config = settings.pick('scrfd_10g', 'scrfd_500m')
    size = settings.pick(640, 64)
    settings.save('config', config)
    settings.save('size', size)
    # As in a training: cuDNN may use TF32 for convolutions in float32.
    settings.save('tf32_convolutions', torch.backends.cudnn.allow_tf32)
    with BusyTimer(settings.device):  # the first trace starts the tracer, which takes seconds
        torch.ones(1, device=settings.device).add_(1)
    for batch_size in settings.pick((32, 128), (2,)):
        batch = pinned(make_batch(batch_size, (size, size), 30), settings.device)
        for precision in PRECISIONS:
            cfg = precise_config(config, precision, settings.device)
            name = f'{precision}, batch {batch_size}'
            settings.part(name, partial(measure, cfg, batch, settings))


def precise_config(config: str, precision: str, device: str) -> Config:
    """Load a config and set its precision; O2 is bfloat16 on CPUs, where float16 is very slow."""
    cfg = load_config(config)
    set_precision(cfg, config_path(PRECISIONS[precision]))
    if precision == 'o2' and device == 'cpu':
        cfg.optim_wrapper.dtype = 'bfloat16'
    return cfg


def measure(cfg: Config, batch: dict, settings: Settings) -> dict[str, Any]:
    """Time blocks of steps. Within a block, the host does not wait for the device.

    Raises:
        CheckError: The trace is empty.
    """
    device, steps = settings.device, settings.pick(5, 1)
    gc.collect()  # the model before
    if device != 'cpu':
        getattr(torch, device).empty_cache()
        getattr(torch, device).reset_peak_memory_stats()
    step, _ = make_step(cfg, device)

    def block() -> None:
        for _ in range(steps):
            step(batch)

    block()
    settings.wait()
    rounds = settings.pick(8, 2)
    (timing,) = compare('steps', {'block': block}, rounds, 1, settings.wait).timings
    with BusyTimer(device) as timer:
        block()
    if not timer.launches:
        raise CheckError('the trace has no kernel, so the busy share is not known')
    images = len(batch['inputs']) * steps
    return {
        'images_per_second': images / timing.median,
        'quartiles': [images / timing.high, images / timing.low],
        'seconds_per_step': timing.median / steps,
        # The tracer slows down the host, so the time without it is used.
        'busy_share': min(1.0, timer.busy / timing.median),
        'busy_share_while_traced': timer.busy / timer.wall,
        'launches_per_step': timer.launches / steps,
        'peak_memory_mib': peak_memory(device),
    }


def peak_memory(device: str) -> float | None:
    """Return the largest memory of tensors since it was reset, in MiB; None on a CPU."""
    if device == 'cpu':
        return None
    return getattr(torch, device).max_memory_allocated() / 2**20
