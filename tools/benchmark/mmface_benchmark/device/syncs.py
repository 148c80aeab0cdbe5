# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""How often the host waits for the device in a training step, and where."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from mmface.engine.step_guard import StepGuard
from mmface_benchmark.device.precision import precise_config
from mmface_benchmark.device.settings import Settings, pinned
from mmface_benchmark.step import make_batch, make_step
from mmface_benchmark.step_trace import MACHINERY, trace_steps

#: For each row: config, precision, and whether a two-stage detector uses the code for NPUs.
STEPS: dict[str, tuple[str, str, bool | None]] = {
    'scrfd_10g fp32': ('scrfd_10g', 'fp32', None),
    'scrfd_10g o1': ('scrfd_10g', 'o1', None),
    'scrfd_10g o2': ('scrfd_10g', 'o2', None),
    'scrfd_500m_bnkps fp32': ('scrfd_500m_bnkps', 'fp32', None),
    'centerface fp32': ('centerface', 'fp32', None),
    'centernet2 fp32': ('centernet2_r50_wider_face', 'fp32', None),
    'centernet2 fp32, fixed shapes': ('centernet2_r50_wider_face', 'fp32', True),
}
_QUICK: dict[str, tuple[str, str, bool | None]] = {
    'scrfd_500m_bnkps fp32': ('scrfd_500m_bnkps', 'fp32', None),
    'scrfd_500m_bnkps o2': ('scrfd_500m_bnkps', 'o2', None),
    'centernet2 fp32': ('centernet2_narrow_wider_face', 'fp32', None),
}
#: Functions that work on the host by design, see ``trace_steps``.
HOST_FUNCTIONS = ('pack_ground_truth', 'suppress_fixed')
# Text of the warning of torch.cuda.set_sync_debug_mode.
_WARNING = 'synchronizing CUDA operation'


def run(settings: Settings) -> None:
    """Save for each step the reads that the tracer finds, and those that CUDA reports."""
    side = settings.pick(320, 128)
    batches = [
        pinned(make_batch(2, (side, side), faces, seed), settings.device)
        for seed, faces in enumerate((20, 5))
    ]
    for name, (config, precision, fixed) in (_QUICK if settings.quick else STEPS).items():
        settings.part(name, partial(count, config, precision, fixed, batches, settings.device))


def count(
    config: str, precision: str, fixed: bool | None, batches: list[dict], device: str
) -> dict[str, Any]:
    """Return the numbers of waits in a step, with the lines that cause them."""
    cfg = precise_config(config, precision, device)
    if fixed is not None:
        for head in ('rpn_head', 'roi_head'):
            cfg.model[head].fixed_shape = fixed
    step, model = make_step(cfg, device)
    scaler = getattr(step.wrapper, 'loss_scaler', None)
    scaled = scaler is not None and scaler.is_enabled()
    guard = StepGuard(model, None if scaled else step.wrapper.optimizer)

    def whole(batch: dict) -> None:
        step(batch)
        guard.end_step()

    trace = trace_steps(whole, batches, device, HOST_FUNCTIONS)
    with sync_places() as places:
        whole(batches[0])
    return {
        'waits': len(places) if device == 'cuda' else len(trace.faults) + len(trace.known_reads),
        'places': dict(Counter(places)),
        'faults': trace.faults,
        'known_reads': trace.known_reads,
    }


@contextmanager
def sync_places() -> Iterator[list[str]]:
    """Collect the lines that make the host wait for a CUDA device; nothing on other devices."""
    places: list[str] = []

    def show(message: Any, *args: Any, **kwargs: Any) -> None:
        if _WARNING in str(message):
            places.append(_place())

    with warnings.catch_warnings():
        warnings.simplefilter('always')
        warnings.showwarning = show
        on = torch.cuda.is_available()
        if on:
            torch.cuda.set_sync_debug_mode('warn')
        try:
            yield places
        finally:
            if on:
                torch.cuda.set_sync_debug_mode('default')


def _place() -> str:
    """Return the innermost line that belongs neither to torch nor to this module."""
    stack = traceback.extract_stack()
    outside = [
        frame
        for frame in reversed(stack)
        if frame.filename != __file__
        and not frame.filename.startswith(MACHINERY)
        and not frame.filename.endswith('/warnings.py')
    ]
    if not outside:
        return 'unknown'
    frame = outside[0]
    return f'{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}'
