# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Time a whole training step against the network alone or mmdet's most similar detector."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

from mmface.apis.config import load_config, set_precision
from mmface.cli.train import PRECISIONS
from mmface.engine.master_weights import cast_to_half
from mmface.utils.allocator import keep_freed_memory
from mmface.utils.config_files import config_path
from mmface.utils.memory_format import use_memory_format
from mmface_benchmark.baseline_cascade_rcnn import cascade_rcnn
from mmface_benchmark.timing import Comparison, compare

NETWORK = 'network alone'
STEP = 'training step'
CASCADE = 'mmdet Cascade R-CNN'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``benchmark.py step``."""
    add = parser.add_argument
    add('config', nargs='?', default='configs/scrfd/scrfd_10g.py', help='default: %(default)s')
    add('--batch-size', type=int, default=8, help='images (%(default)s)')
    add('--size', type=int, nargs=2, default=(640, 640), metavar=('H', 'W'), help='of images')
    add('--faces', type=int, default=30, help='per image (%(default)s)')
    add('--precision', choices=tuple(PRECISIONS), help='default: the precision in the config')
    add('--formats', action='store_true', help='also time both memory formats of the weights')
    add('--profile', action='store_true', help='also show where the time of a step goes')


def run(args: argparse.Namespace) -> list[Comparison]:
    """Time the training step of a config on synthetic images that are already in memory.

    SCRFD and CenterFace are compared with the forward and backward pass of their network alone.
    CenterNet2 is compared with mmdet's Cascade R-CNN on the same backbone.
    """
    keep_freed_memory()  # as tools/train.py does; it applies to every way
    device = get_device()
    # Otherwise it would log how each weight was initialised.
    MMLogger.get_instance('benchmark').setLevel('ERROR')
    cfg = load_config(args.config)
    if args.precision:
        set_precision(cfg, config_path(PRECISIONS[args.precision]))
    batch = make_batch(args.batch_size, tuple(args.size), args.faces)
    step, model = make_step(cfg, device)
    ways: dict[str, Callable[[], object]]
    if hasattr(model, 'roi_head'):
        other = cfg.copy()
        other.model = Config(dict(model=cascade_rcnn(cfg.model.to_dict()))).model
        baseline, _ = make_step(other, device)
        ways = {STEP: lambda: step(batch), CASCADE: lambda: baseline(batch)}
    else:
        network = network_alone(model, step.wrapper, batch)
        ways = {NETWORK: network, STEP: lambda: step(batch)}
    for last in (True, False) if args.formats else ():
        again, _ = make_step(cfg, device, last)
        ways[f'{STEP}, channels {"last" if last else "first"}'] = functools.partial(again, batch)
    wait = torch.cuda.synchronize if device == 'cuda' else None
    notes: dict[str, float | str] = {}
    if args.profile:
        notes = {'profile': profile(lambda: step(batch)), 'host': host_waits(step, args)}
    name = Path(args.config).stem
    task = f'{name}: batch {args.batch_size}, {args.size[0]}x{args.size[1]}, {device}'
    return [compare(task, ways, args.rounds, 2, wait, notes)]


def make_batch(batch_size: int, size: tuple[int, int], faces: int, seed: int = 0) -> dict:
    """Build a batch as the data loader returns it.

    Args:
        batch_size: Number of images.
        size: Height and width of the images.
        faces: Number of faces per image, each with five keypoints.
        seed: Seed of the random images and faces.
    """
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]])
    samples = []
    for _ in range(batch_size):
        side = 6 + min(size) / 3 * torch.rand(faces, 1, generator=generator).pow(3)
        corner = torch.rand(faces, 2, generator=generator) * (extent - side)
        points = torch.rand(faces, 5, 2, generator=generator) * side[:, None] + corner[:, None]
        sample = DetDataSample(metainfo=dict(img_shape=size, scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + side], dim=1),
            labels=torch.zeros(faces, dtype=torch.long),
            keypoints=torch.cat([points, torch.ones(faces, 5, 1)], dim=-1),
        )
        sample.ignored_instances = sample.gt_instances[:0]
        samples.append(sample)
    images = torch.randint(0, 256, (batch_size, 3, *size), generator=generator)
    return dict(inputs=list(images.to(torch.uint8)), data_samples=samples)


class _Step:
    """Train one step on a batch."""

    def __init__(self, model: Any, wrapper: Any) -> None:
        self.model = model
        self.wrapper = wrapper

    def __call__(self, batch: dict) -> object:
        # Stock heads change boxes in place.
        samples = [sample.clone() for sample in batch['data_samples']]
        data = dict(inputs=batch['inputs'], data_samples=samples)
        return self.model.train_step(data, self.wrapper)


def make_step(cfg: Config, device: str, channels_last: bool | None = None) -> tuple[_Step, Any]:
    """Build the detector of a config and its training step.

    Args:
        cfg: Config of a training.
        device: Type of the device.
        channels_last: Whether the weights use the channels-last format; ``None``: as in the runner.
    """
    torch.manual_seed(0)
    init_default_scope(cfg.default_scope)
    cfg.model.data_preprocessor.pad_size = None
    model = MODELS.build(cfg.model)
    model.init_weights()
    model = model.to(device).train()
    if channels_last is None:
        use_memory_format(model, cfg, device)
    elif channels_last:
        model = model.to(memory_format=torch.channels_last)
    options = cfg.optim_wrapper
    if options.get('type') == 'O2OptimWrapper':
        cast_to_half(model, options.get('dtype', 'float16'), options.get('half_norms', False))
    return _Step(model, build_optim_wrapper(model, options)), model


def network_alone(model: Any, wrapper: Any, batch: dict) -> Callable[[], object]:
    """Return the forward and backward pass of backbone, neck and head, without the losses."""
    inputs = model.data_preprocessor(batch, True)['inputs']

    def tensors(maps: Any) -> list[Tensor]:
        return [maps] if isinstance(maps, Tensor) else [t for part in maps for t in tensors(part)]

    def once() -> None:
        with wrapper.optim_context(model):
            maps = tensors(model(inputs, mode='tensor'))
            # The gradient of a sum is known without any computation.
            torch.autograd.backward(maps, [torch.ones_like(level) for level in maps])
        model.zero_grad()

    return once


def profile(step: Callable[[], object], rows: int = 15) -> str:
    """Return a table of the operators that take most of the time of a step."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    key = 'self_cpu_time_total'
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
        key = 'self_cuda_time_total'
    step()
    with torch.profiler.profile(activities=activities) as found:
        step()
    return '\n' + found.key_averages().table(sort_by=key, row_limit=rows, max_name_column_width=40)


def host_waits(step: Callable[[dict], object], args: argparse.Namespace) -> str:
    """Count the values that a step reads on the host, and list the data-dependent shapes."""
    from mmface_benchmark.step_trace import trace_steps

    small = [make_batch(2, (128, 128), args.faces, seed) for seed in range(2)]
    trace = trace_steps(step, small, host_functions=('pack_ground_truth', 'suppress_fixed'))
    lines = [*trace.known_reads, *trace.faults]
    return f'{len(lines)} reads of values or data-dependent shapes a step' + ''.join(
        f'\n    {line}' for line in lines
    )
