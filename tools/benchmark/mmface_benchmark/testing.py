# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Time a whole test against decoding the images and running the network."""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
from mmengine.device import get_device

from mmface.apis import config as edit
from mmface.engine.face_runner import FaceRunner
from mmface.utils.allocator import keep_freed_memory
from mmface.utils.checkpoint import secure_mmengine_loading
from mmface_benchmark.timing import Comparison, compare

BARE = 'decoding and network'
TEST = 'whole test'
STOCK = 'the same, channels first'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``benchmark.py test``."""
    add = parser.add_argument
    add('config', help='config file')
    add('checkpoint', help='checkpoint file')
    add('--data-path', help='folder of the data set (default: that of the config)')
    add('--mode', help='image size, see tools/test.py')
    add('--part', help="only the images in this list ('event/name.jpg' lines)")


def run(args: argparse.Namespace) -> list[Comparison]:
    """Time the test loop, with evaluation but without start-up.

    The other way decodes the same JPEG files and runs the network on one input of the test's size
    for each, in this process, one after the other. Every test needs at least this work.
    """
    secure_mmengine_loading()
    keep_freed_memory()  # as tools/test.py does; it applies to both ways
    cfg = edit.load_config(args.config)
    edit.set_data_path(cfg, args.data_path)
    if args.mode:
        edit.set_mode(cfg, args.mode)
    edit.set_part(cfg, args.part)
    edit.set_no_validation(cfg)
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        cfg[key] = None
    cfg.load_from = args.checkpoint
    cfg.log_level = 'ERROR'
    device = get_device()
    with tempfile.TemporaryDirectory() as work_dir:
        cfg.work_dir = work_dir
        runner = FaceRunner.from_cfg(cfg)
        network = copy.deepcopy(runner.model).eval()  # as the config builds it
        runner.test()  # starts the workers; afterwards the norms are folded into the convolutions
        dataset = runner.test_dataloader.dataset
        files = [dataset.get_data_info(number)['img_path'] for number in range(len(dataset))]
        size = network.data_preprocessor.pad_size or dataset[0]['inputs'].shape[-2:]
        inputs = torch.zeros(1, 3, *size, device=device)

        # In the memory format that mmdet leaves it in.
        stock = copy.deepcopy(network).to(memory_format=torch.contiguous_format)

        def bare(network: torch.nn.Module) -> None:
            with torch.no_grad():
                for file in files:
                    cv2.imread(file)
                    network(inputs, mode='tensor')

        wait = torch.cuda.synchronize if device == 'cuda' else None
        ways: dict[str, Callable[[], object]] = {
            BARE: lambda: bare(network),
            TEST: lambda: runner.test_loop.run(),
            STOCK: lambda: bare(stock),
        }
        task = f'{Path(args.config).stem}: test of {len(files)} images, {device}'
        return [compare(task, ways, args.rounds, 0, wait)]
