# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Time whole iterations of a training, with the runner and all its hooks."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.device import get_device
from torch.utils.data import Dataset

from mmface.apis.config import load_config
from mmface.engine.face_runner import FaceRunner
from mmface.engine.resumable_epoch_train_loop import ResumableEpochTrainLoop
from mmface.utils.allocator import keep_freed_memory
from mmface_benchmark.step import NETWORK, make_batch, network_alone
from mmface_benchmark.timing import Comparison, compare

ITERATION = 'training iteration'
CONFIGS = ['configs/scrfd/scrfd_500m_bnkps.py', 'configs/centerface/centerface_small.py']
Iterate = Callable[[dict], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``benchmark.py iteration``."""
    add = parser.add_argument
    add('configs', nargs='*', default=CONFIGS, help='SCRFD or CenterFace configs')
    add('--batch-sizes', type=int, nargs='+', default=[2, 8], help='images (%(default)s)')
    add('--sizes', type=int, nargs='+', default=[320, 640], help='sides of images (%(default)s)')
    add('--faces', type=int, default=30, help='per image (%(default)s)')
    add('--threads', type=int, default=1, help='threads of torch (%(default)s)')


def run(args: argparse.Namespace) -> list[Comparison]:
    """Time iterations on batches in memory against forward and backward pass of the network.

    On a CPU the times are processor time, which other programs hardly change.
    """
    keep_freed_memory()  # as tools/train.py does; it applies to both ways
    torch.set_num_threads(args.threads)
    on_cpu = get_device() == 'cpu'
    clock = time.process_time if on_cpu else time.perf_counter
    wait = torch.cuda.synchronize if get_device() == 'cuda' else None
    found: list[Comparison] = []
    for config in args.configs:
        cfg = load_config(config)
        cfg.model.data_preprocessor.pad_size = None
        for size in args.sizes:
            for number in args.batch_sizes:
                batch = make_batch(number, (size, size), args.faces)
                task = f'{Path(config).stem}: batch {number}, {size}x{size}, {get_device()}'

                def measure(
                    runner: Any, iterate: Iterate, batch: dict = batch, task: str = task
                ) -> None:
                    ways: dict[str, Callable[[], object]] = {
                        NETWORK: network_alone(runner.model, runner.optim_wrapper, batch),
                        ITERATION: lambda: iterate(batch),
                    }
                    found.append(compare(task, ways, args.rounds, 3, wait, clock=clock))

                measure_iterations(cfg, measure)
    return found


@DATASETS.register_module()
class NoImages(Dataset):
    """The data set of a run whose batches are in memory. It only has a length."""

    metainfo = dict(classes=('face',))

    def __len__(self) -> int:
        """Return a length that a measurement does not reach."""
        return 1 << 20


class MeasuredLoop(ResumableEpochTrainLoop):
    """Call ``measure`` with the function that trains an iteration, in place of an epoch."""

    def __init__(self, *args: Any, measure: Callable[[Any, Iterate], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._measure = measure

    def run_epoch(self) -> None:
        """Measure in place of an epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self._measure(self.runner, lambda batch: self.run_iter(self._iter, batch))
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


def measure_iterations(cfg: Config, measure: Callable[[Any, Iterate], None]) -> None:
    """Start a training of a config as ``tools/train.py`` does, and measure its iterations.

    Args:
        cfg: Config of a training.
        measure: Called once, with the runner and a function that trains one iteration on a batch.
    """
    cfg = cfg.copy()
    cfg.train_dataloader.dataset = dict(type='NoImages')
    cfg.train_dataloader.num_workers = 0
    for place in ('val', 'test'):
        for part in ('dataloader', 'evaluator', 'cfg'):
            cfg[f'{place}_{part}'] = None
    cfg.default_hooks.checkpoint = None
    cfg.log_level = 'ERROR'
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        # Runs that start in the same second must not share a visualizer.
        cfg.experiment_name = Path(folder).name
        runner = FaceRunner.from_cfg(cfg)
        # Not in the config, because the runner writes that as text.
        runner._train_loop = MeasuredLoop(runner, runner._train_dataloader, 1, measure=measure)
        runner.train()
