# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The process group ``hccl``: gloo, working on the simulated devices' memory in place."""

from __future__ import annotations

import atexit
import weakref

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import ProcessGroupGloo, _create_work_from_future
from torch.futures import Future

_groups: weakref.WeakSet[HCCL] = weakref.WeakSet()


def _host(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    for tensor in tensors:
        if tensor.device.type != 'npu':
            # The words of PyTorch for a backend without this kind of device.
            raise RuntimeError(f'No backend type associated with device type {tensor.device.type}')
        if not tensor.is_contiguous():
            raise ValueError('Tensors must be contiguous')
    return [torch.ops.npusim.host_view(tensor.detach()) for tensor in tensors]


def _done(result) -> dist.Work:
    future: Future = Future()
    future.set_result(result)
    return _create_work_from_future(future)


class HCCL(dist.ProcessGroup):
    """Collectives that wait for their end before they return."""

    def __init__(self, store, rank: int, size: int, timeout) -> None:
        super().__init__(rank, size)
        self._rank, self._size = rank, size
        self._gloo = ProcessGroupGloo(store, rank, size, timeout)
        _groups.add(self)

    def allreduce(self, tensors, opts=None) -> dist.Work:
        tensors = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        options = dist.AllreduceOptions()
        op = dist.ReduceOp.SUM if opts is None else opts.reduceOp
        average = op == dist.ReduceOp.AVG  # gloo has none
        options.reduceOp = dist.ReduceOp.SUM if average else op
        for host in _host(tensors):
            self._gloo.allreduce([host], options).wait()
            if average:
                host.div_(self._size)
        return _done(tensors)

    def allreduce_coalesced(self, tensors, opts=None) -> dist.Work:
        return self.allreduce(tensors, opts)

    def broadcast(self, tensors, opts=None) -> dist.Work:
        options = dist.BroadcastOptions()
        options.rootRank = 0 if opts is None else opts.rootRank
        options.rootTensor = 0
        self._gloo.broadcast(_host(tensors), options).wait()
        return _done(list(tensors))

    def allgather(self, outputs, inputs, opts=None) -> dist.Work:
        self._gloo.allgather([_host(part) for part in outputs], _host(inputs)).wait()
        return _done(list(outputs))

    def all_gather_single(self, output, source, opts=None) -> dist.Work:
        parts = list(output.view(self._size, -1).unbind())
        self._gloo.allgather([_host(parts)], _host([source.reshape(-1)])).wait()
        return _done([output])

    def reduce_scatter(self, outputs, inputs, opts=None) -> dist.Work:
        total = torch.stack([torch.stack(list(part)) for part in inputs])
        work = self.allreduce([total], opts)
        for output, part in zip(outputs, total, strict=True):
            output.copy_(part[self._rank])
        return work

    def reduce_scatter_single(self, output, source, opts=None) -> dist.Work:
        total = source.clone()
        work = self.allreduce([total], opts)
        output.view(-1).copy_(total.view(self._size, -1)[self._rank])
        return work

    # The names before torch 2.13.
    _allgather_base = all_gather_single
    _reduce_scatter_base = reduce_scatter_single

    def barrier(self, opts=None) -> dist.Work:
        self._gloo.barrier().wait()
        return _done([])

    def shutdown(self) -> None:
        """End gloo's threads, which must not outlive the interpreter."""
        self._gloo = None

    abort = shutdown

    @property
    def _device_types(self) -> list[torch.device]:
        """Where PyTorch puts the bytes of objects."""
        return [torch.device('npu')]

    def getBackendName(self) -> str:
        return 'hccl'

    def size(self) -> int:
        return self._size

    def rank(self) -> int:
        return self._rank


@atexit.register
def _shut_down_all() -> None:
    for group in list(_groups):
        group.shutdown()


dist.Backend.register_backend('hccl', HCCL, devices=['npu'])
