# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Start and end of the process group on any device, including the CPU."""

from __future__ import annotations

import datetime
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS
from torch import nn
from torch.nn.parallel import DistributedDataParallel

BACKENDS = {'cuda': 'nccl', 'npu': 'hccl', 'cpu': 'gloo'}

#: DDP's own size of a bucket of gradients in MiB, which suits large networks.
LARGEST_BUCKET = 25
#: Number of buckets for smaller networks.
BUCKETS = 8

#: Seconds that the backend waits longer than the watch, which names the rank that is stuck.
GRACE = 120


def init_distributed(launcher: str, backend: str | None = None, timeout: float = 600) -> None:
    """Join the process group of a job started by torchrun or slurm.

    mmengine's own function uses ``torch.cuda`` if there is no other accelerator, so it does
    not work with CPU ranks. Its slurm branch does not support the NPU.

    Args:
        launcher: 'pytorch' (torchrun; reads RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and
            MASTER_PORT) or 'slurm' (reads the SLURM_* variables and sets the former).
        backend: Backend of ``torch.distributed``. None selects it by device: nccl (CUDA),
            hccl (NPU), gloo (CPU).
        timeout: Seconds after which ``RankWatchHook`` ends ranks that wait for another. The
            backend gives up ``GRACE`` seconds later.

    Raises:
        ValueError: The launcher is unknown, the program was not started by the launcher, or
            this host has fewer devices than ranks.
    """
    if launcher == 'slurm':
        _read_slurm_environment()
    elif launcher != 'pytorch':
        raise ValueError(f"launcher must be 'none', 'pytorch' or 'slurm', not '{launcher}'")
    missing = [name for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE') if name not in os.environ]
    if missing:
        raise ValueError(
            f"launcher is '{launcher}', but {', '.join(missing)} is not set; start "
            'with tools/dist_train.sh or tools/dist_test.sh'
        )
    device = get_device()
    local_rank = int(os.environ['LOCAL_RANK'])
    if device != 'cpu':
        module = getattr(torch, device)
        if local_rank >= module.device_count():
            raise ValueError(
                f'rank {local_rank} on this host has no device: {module.device_count()} {device} '
                'device(s) found; start fewer ranks or make more devices visible'
            )
        module.set_device(local_rank)
    torch_dist.init_process_group(
        backend or BACKENDS.get(device, 'gloo'),
        rank=int(os.environ['RANK']),
        world_size=int(os.environ['WORLD_SIZE']),
        timeout=datetime.timedelta(seconds=timeout + GRACE),
    )


def wrapper_options(
    model: nn.Module, cfg: Config, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the options of the wrapper of a model for several ranks.

    Ranks exchange a bucket of gradients as soon as all of them are computed, while the backward
    pass goes on. In DDP's own buckets of 25 MiB, the gradients of a small network would wait for
    its end: scrfd_10g has 15 MiB. With an eighth of them in a bucket, only the last one waits.

    Args:
        model: The model in its final data types.
        cfg: Config of the run.
        given: Options that replace those below. If they name another wrapper than
            ``MMDistributedDataParallel``, the others are left out.
    """
    options: dict[str, Any] = {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
        'bucket_cap_mb': min(gradient_bytes(model) / 2**20 / BUCKETS, LARGEST_BUCKET),
    }
    given = dict(given or {})
    kind = given.get('type', options['type'])
    wrapper = kind if isinstance(kind, type) else MODEL_WRAPPERS.get(kind)
    options = {**options, **given} if wrapper is MMDistributedDataParallel else given
    if get_device() == 'cpu' and issubclass(wrapper or object, DistributedDataParallel):
        options['device_ids'] = None  # it requires that, but mmengine always passes an id
    return options


def gradient_bytes(model: nn.Module) -> int:
    """Return the bytes of the gradients that ranks exchange in a step."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def leave_distributed(status: int = 0) -> None:
    """Leave the process group, if there is one. Call it last in a program.

    Ranks on gloo end here. gloo's threads sometimes abort a process while its interpreter
    shuts down, even after the group was destroyed. torchrun then reports a failed run although
    everything was written. Nothing is left to do, so the shutdown is skipped. If ``status`` is
    not 0, the shutdown is skipped on every backend: launchers kill the other ranks as soon as
    one has ended in this way, and a killed rank has a different status.

    Args:
        status: Exit status of the ranks.
    """
    if not (torch_dist.is_available() and torch_dist.is_initialized()):
        return
    gloo = torch_dist.get_backend() == 'gloo'
    torch_dist.barrier()
    torch_dist.destroy_process_group()
    if gloo or status:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _read_slurm_environment() -> None:
    """Set the variables of torchrun from those of ``srun``."""
    if 'SLURM_PROCID' not in os.environ:
        raise ValueError('not started by srun (SLURM_PROCID is not set); use slurm_train.sh')
    os.environ['RANK'] = os.environ['SLURM_PROCID']
    os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
    os.environ['LOCAL_RANK'] = os.environ['SLURM_LOCALID']
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        names = subprocess.run(
            ['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']],
            capture_output=True,
            text=True,
            check=True,
        )
        os.environ['MASTER_ADDR'] = names.stdout.split()[0]
