# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The simulated hccl."""

from __future__ import annotations

import os
import subprocess
import sys


def test_hccl__collectives_of_two_ranks(npu_env, tmp_path):
    script = tmp_path / 'ranks.py'
    script.write_text(
        """
import os, warnings
import pytest, torch, torch_npu
from torch import nn
import torch.distributed as dist
warnings.filterwarnings('ignore', '.*is deprecated', FutureWarning)
rank = int(os.environ['LOCAL_RANK'])
torch.npu.set_device(rank)
dist.init_process_group('hccl')
mine = torch.tensor([1., 2.], device='npu') + 10 * rank      # [1 2], [11 12]
assert mine.device.index == rank

def after(collective, **kwargs):
    x = mine.clone()
    collective(x, **kwargs)
    return x.tolist()

assert after(dist.all_reduce) == [12, 14]
assert after(dist.all_reduce, op=dist.ReduceOp.AVG) == [6, 7]
assert after(dist.all_reduce, op=dist.ReduceOp.MAX) == [11, 12]
assert after(dist.broadcast, src=1) == [11, 12]
parts = [torch.empty(2, device='npu') for _ in range(2)]
dist.all_gather(parts, mine)
assert [p.tolist() for p in parts] == [[1, 2], [11, 12]]
whole = torch.empty(4, device='npu')
dist.all_gather_into_tensor(whole, mine)
assert whole.tolist() == [1, 2, 11, 12]
one = torch.empty(1, device='npu')
dist.reduce_scatter(one, list(mine.split(1)))
assert one.tolist() == [12 + 2 * rank]
dist.reduce_scatter_tensor(one, mine)
assert one.tolist() == [12 + 2 * rank]
things = [None, None]
dist.all_gather_object(things, {'rank': rank})
assert things == [{'rank': 0}, {'rank': 1}]
with pytest.raises(RuntimeError, match='No backend type associated with device type cpu'):
    dist.all_reduce(torch.ones(2))
with torch_npu.waits.record_waits() as found:
    dist.all_reduce(mine)
assert not found.counts                                       # gloo's work is not on the device

torch.manual_seed(rank)
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 1)).npu()
net = nn.parallel.DistributedDataParallel(net, device_ids=[rank])
optimizer = torch.optim.SGD(net.parameters(), .1)
for _ in range(3):
    optimizer.zero_grad()
    net(torch.randn(2, 3, 8, 8).npu()).square().mean().backward()
    optimizer.step()
total = torch.stack([p.sum() for p in net.parameters()])
same = total.clone()
dist.broadcast(same, src=0)
assert torch.equal(total, same)
dist.barrier()
if rank:
    dist.destroy_process_group()      # rank 0 omits this
"""
    )
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2',
         script],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, **npu_env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
