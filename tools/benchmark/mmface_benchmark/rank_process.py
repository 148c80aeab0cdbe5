# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""One rank of ``benchmark.py ranks``; torchrun starts it."""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.logging import MMLogger
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from mmface.apis.config import load_config
from mmface.engine.dist import gradient_bytes, init_distributed, leave_distributed, wrapper_options
from mmface.utils.device import use_device
from mmface.utils.files import write_text
from mmface_benchmark.step import make_batch, make_step
from mmface_benchmark.timing import compare

OURS, TORCH, STATIC = 'our buckets', "torch's buckets", 'our buckets, static graph'
_OPTIONS: dict[str, dict[str, Any]] = {
    OURS: {},
    TORCH: {'bucket_cap_mb': None},
    STATIC: {'static_graph': True},
}
# Names in the trace: of the backward pass, of the start of an exchange, of an exchange (gloo).
_BACKWARD = 'autograd::engine::evaluate_function'
_LAUNCH = 'c10d::allreduce_'
_EXCHANGE = 'gloo:all_reduce'


def main() -> None:
    """Time all ways in turn, trace a step of each, and write the numbers of rank 0."""
    args = SimpleNamespace(**json.loads(sys.argv[1]))
    device = use_device(args.device)
    init_distributed('pytorch')
    MMLogger.get_instance('benchmark').setLevel('ERROR')
    rank = torch_dist.get_rank()
    batch = make_batch(args.batch_size, tuple(args.size), args.faces, rank)
    ways: dict[str, Callable[[], Any]] = {}
    notes: dict[str, float | str] = {}
    for name, options in _OPTIONS.items():
        step, model = make_step(load_config(args.config), device)
        step.model = wrap(model, load_config(args.config), options, device)
        ways[name] = functools.partial(step, batch)
        notes['gradients, MB'] = round(gradient_bytes(model) / 1e6, 2)
        for _ in range(3):  # torch chooses the final buckets after the first step
            losses = ways[name]()
        notes[f'loss, {name}'] = float(losses['loss']).hex()
        events = trace(ways[name], Path(args.trace) if args.trace and name == OURS else None, rank)
        sizes = bucket_bytes(step.model)
        notes[f'buckets, {name}, MB'] = ', '.join(f'{size / 1e6:.2f}' for size in sizes)
        notes.update({f'{key}, {name}': v for key, v in exchange(events, sizes).items()})
    task = f'{Path(args.config).stem}: {torch_dist.get_world_size()} ranks, {device}'
    found = compare(task, ways, args.rounds, 1, torch_dist.barrier, notes)
    if rank == 0:
        write_text(args.out, json.dumps(found.to_dict()))
    leave_distributed()


def wrap(model: nn.Module, cfg: Any, options: dict[str, Any], device: str) -> Any:
    """Wrap a model as ``FaceRunner`` does, with some options replaced."""
    ids = None if device == 'cpu' else [torch_dist.get_rank()]
    built = {'device_ids': ids, **wrapper_options(model, cfg, options)}
    return MODEL_WRAPPERS.build(built, default_args={'module': model})


def bucket_bytes(wrapped: Any) -> list[int]:
    """Return the bytes of each bucket in the order of the exchange."""
    data = wrapped._get_ddp_logging_data()
    text = data.get('rebuilt_bucket_sizes') or data['bucket_sizes']
    return [int(size) for size in text.split(',')]


def trace(step: Callable[[], object], file: Path | None, rank: int) -> list[dict[str, Any]]:
    """Run a step and return the events of its trace; rank 0 also writes them to ``file``."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'trace.json'
        profiler.export_chrome_trace(str(path))
        text = path.read_text(encoding='utf-8', errors='replace')
    if file is not None and rank == 0:
        write_text(file, text)
    return [event for event in json.loads(text)['traceEvents'] if event.get('ph') == 'X']


def exchange(events: Sequence[dict[str, Any]], sizes: Sequence[int]) -> dict[str, float]:
    """Compare the times of the exchanges with the backward pass.

    Args:
        events: Complete events of the trace of a step.
        sizes: Bytes of each bucket, in the order of the exchange.

    Returns:
        ``exchanges``, their number; ``bytes sent before the end``, the share of the gradients
        whose exchange starts before the last function of the backward pass; and, where the trace
        has the exchanges of gloo (not always all of them), ``exchange time inside``, the share of
        their time within the backward pass.

    Raises:
        ValueError: The trace has no backward pass, or another number of exchanges than buckets.
    """
    backward = [event for event in events if event['name'].startswith(_BACKWARD)]
    if not backward:
        raise ValueError('the trace has no backward pass')
    begin = min(event['ts'] for event in backward)
    last = max(event['ts'] for event in backward)
    end = max(event['ts'] + event['dur'] for event in backward)
    # Heads exchange numbers of faces before that.
    starts = sorted(e['ts'] for e in events if e['name'] == _LAUNCH and e['ts'] >= begin)
    if len(starts) != len(sizes):
        raise ValueError(f'the trace has {len(starts)} exchanges for {len(sizes)} buckets')
    early = sum(size for size, start in zip(sizes, starts, strict=True) if start < last)
    found: dict[str, float] = {
        'exchanges': len(starts),
        'bytes sent before the end': round(early / sum(sizes), 3),
    }
    spans = [e for e in events if e['name'] == _EXCHANGE and e['ts'] >= begin]
    whole = sum(event['dur'] for event in spans)
    if whole:
        inside = sum(
            max(0.0, min(event['ts'] + event['dur'], end) - event['ts']) for event in spans
        )
        found['exchange time inside'] = round(inside / whole, 3)
    return found


if __name__ == '__main__':
    main()
