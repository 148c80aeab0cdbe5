#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# DDP sends the gradients of a small network after the backward pass
#
# Versions:  torch 2.13.0 (CPU, gloo)
# Expected:  DistributedDataParallel sends gradients while the backward pass makes the next ones.
# Seen:      Buckets hold 1 MiB at first and 25 MiB from then on. Of 15 MB in ten layers, one layer
#            is sent early and the other nine, 90 % of the bytes, when all gradients are there.
#            With bucket_cap_mb=2 the last bucket is a fifth, and weights get the same bits.
# Matters:   Networks that detect faces have 2 to 20 MB of gradients, so they fit into the second
#            bucket. Each step then waits for nearly the whole exchange.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6 || exit 2
cat > ranks.py << 'PY'
import os

import torch
import torch.distributed as dist
from torch import nn


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/ranks', rank=rank, world_size=2)
    ends = [steps(rank, options) for options in ({}, {'bucket_cap_mb': 2})]
    if rank == 0:
        (default, late), (small, late_small) = ends
        assert all(torch.equal(a, b) for a, b in zip(default, small))
        assert late > 0.85 and late_small < 0.25, (late, late_small)
    dist.destroy_process_group()


def steps(rank, options):
    """Weights after three steps, and the part of the bytes that the last step sends at its end."""
    torch.manual_seed(0)
    network = nn.Sequential(*[nn.Linear(620, 620, bias=False) for _ in range(10)])
    ddp = nn.parallel.DistributedDataParallel(network, **options)
    events = []

    def send(_, bucket):
        """What DDP does by itself, with a note of when."""
        events.append(('send', 4 * bucket.buffer().numel()))
        future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
        return future.then(lambda f: f.value()[0] / 2)

    ddp.register_comm_hook(None, send)
    for i, weight in enumerate(network.parameters()):
        weight.register_post_accumulate_grad_hook(lambda _, i=i: events.append(('layer', i)))
    sgd = torch.optim.SGD(network.parameters(), lr=0.01)
    for step in range(3):  # buckets are made anew after the first step
        events.clear()
        sgd.zero_grad()
        torch.manual_seed(2 * step + rank)
        ddp(torch.randn(4, 620)).square().mean().backward()
        sgd.step()
    sent = [n for what, n in events if what == 'send']
    end = events.index(('layer', 0))  # the gradient that is made last
    late = sum(n for what, n in events[end:] if what == 'send') / sum(sent)
    if rank == 0:
        print(options or 'default', *[f'{what} {n}' for what, n in events], sep='\n    ')
        print(f'    {late:.0%} of {sum(sent)} bytes sent after the last gradient')
    return [weight.detach().clone() for weight in network.parameters()], late


if __name__ == '__main__':
    torch.multiprocessing.spawn(work, (os.getcwd(),), nprocs=2)
PY
env/bin/python ranks.py
