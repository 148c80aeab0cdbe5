# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Trace a training step for operations that make an NPU recompile or the host wait for the device.

Data-dependent shapes make NPUs compile operators again and again. Reading a value on the host makes
every accelerator wait. ``trace_steps`` runs a step on batches that differ only in their data. It
lists both kinds of faults, with the line of Python that causes them.
"""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operators whose output size depends on values, by name without overload.
_DATA_DEPENDENT = {
    'aten::bincount',
    'aten::masked_select',
    'aten::nonzero',
    'aten::unique_consecutive',
    'aten::unique_dim',
    'aten::unique_dim_consecutive',
    'aten::_unique',
    'aten::_unique2',
}
_HOST_READS = {'aten::_local_scalar_dense', 'aten::equal', 'aten::is_nonzero'}
_INDEXING = {'aten::index', 'aten::index_put', 'aten::index_put_', 'aten::_index_put_impl_'}
# These read a tensor on the CPU without calling an operator.
_SILENT_READS = {
    torch.Tensor.tolist: 'tolist()',
    torch.Tensor.numpy: 'numpy()',
    torch.Tensor.cpu: 'cpu()',
    torch.Tensor.__array__: 'conversion to NumPy',
}
# Code of other packages that intentionally reads values once per step, by a part of its path.
_KNOWN_READERS = {
    'torch/amp/grad_scaler.py': 'loss scaler',
    'torch/optim/': "optimizer's counter of steps",
    'mmengine/logging/': 'logger',
    'mmengine/hooks/': 'logger',
}
MACHINERY = (f'{Path(torch.__file__).parent}/', __file__)
_ANOMALY_FRAME = re.compile(r'File "(.+)", line (\d+), in (\S+)')


class Frame(NamedTuple):
    """A line of Python that is being run."""

    path: str
    line: int
    function: str

    def __str__(self) -> str:
        code = linecache.getline(self.path, self.line).strip()
        return f'{self.path}:{self.line} in {self.function}: {code}'


class _Call(NamedTuple):
    """An operator with the shapes of its outputs."""

    operator: str
    shapes: tuple[tuple[int, ...], ...]
    place: str


@dataclass
class StepTrace:
    """The faults found in the steps.

    Attributes:
        faults: One line for each pair of operator and line of Python.
        known_reads: Reads of values by the loss scaler, the optimizer and the logger.
        num_operators: Number of operators in the last step.
    """

    faults: list[str] = field(default_factory=list)
    known_reads: list[str] = field(default_factory=list)
    num_operators: int = 0

    def __str__(self) -> str:
        return '\n'.join(self.faults) or 'no faults'


def trace_steps(
    step: Callable[[Any], object],
    batches: Sequence[Any],
    device: str = 'cpu',
    host_functions: Sequence[str] = ('pack_ground_truth',),
) -> StepTrace:
    """Run a training step on batches that differ only in their data, and list the differences.

    The first run, on the first batch, is not traced: it fills caches and creates the state of the
    optimizer.

    Args:
        step: Function that trains one step on a batch.
        batches: Images of one size with different faces. The numbers of faces must be padded to
            the same length.
        device: Type of the device the step runs on. On an accelerator, operations on host tensors
            are recognised automatically; on the CPU they cannot be.
        host_functions: Names of functions that work on the host by design, before the one copy to
            the device. Operations inside them are not recorded.

    Returns:
        The faults: operators with outputs of data-dependent size, indexing with masks, values
        read on the host, and everything whose shapes or order differ between batches.
    """
    step(batches[0])
    trace = StepTrace()
    runs = []
    for batch in batches:
        recorder = _Recorder(trace, device, host_functions)
        # Record the lines of the forward pass, to which those of the backward pass belong.
        lines = torch.autograd.set_detect_anomaly(True, check_nan=False)
        with lines, _SilentReads(trace, device, host_functions), recorder:
            step(batch)
        runs.append(recorder.calls)
    for run in runs[1:]:
        _compare(runs[0], run, trace)
    trace.num_operators = len(runs[-1])
    return trace


class _Recorder(TorchDispatchMode):
    """Records all operators, also of the backward pass, and reports forbidden ones as faults."""

    def __init__(self, trace: StepTrace, device: str, host_functions: Sequence[str]) -> None:
        super().__init__()
        self.trace = trace
        self.device = device
        self.host_functions = host_functions
        self.calls: list[_Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if not any(tensor.device.type == self.device for tensor in inputs + outputs):
            return out
        frames = list(_stack())
        if any(frame.function in self.host_functions for frame in frames):
            return out
        name = func.name().partition('.')[0]
        place = _place(frames)
        self.calls.append(_Call(name, tuple(tuple(tensor.shape) for tensor in outputs), place))
        if problem := self._problem(name, args, kwargs, inputs, outputs):
            _report(self.trace, f'{func.name()} {problem}', place, frames)
        return out

    def _problem(
        self, name: str, args: tuple, kwargs: dict, inputs: list[Tensor], outputs: list[Tensor]
    ) -> str:
        if name in _DATA_DEPENDENT:
            return 'has an output of data-dependent size'
        if name in _HOST_READS:
            return 'reads a value on the host'
        if name in _INDEXING:
            indices = [i for i in args[1] if isinstance(i, Tensor)]
            if any(i.dtype in (torch.bool, torch.uint8) for i in indices):
                return 'indexes with a mask'
        if name == 'aten::repeat_interleave' and kwargs.get('output_size') is None:
            return 'has no output_size'
        from_device = any(tensor.device.type == self.device for tensor in inputs)
        if from_device and outputs and not any(t.device.type == self.device for t in outputs):
            return 'copies to the host'
        return ''


class _SilentReads(TorchFunctionMode):
    """Records reads of tensors that call no operator."""

    def __init__(self, trace: StepTrace, device: str, host_functions: Sequence[str]) -> None:
        super().__init__()
        self.trace = trace
        self.device = device
        self.host_functions = host_functions

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func in _SILENT_READS and args[0].device.type == self.device:
            frames = list(_stack())
            if not any(frame.function in self.host_functions for frame in frames):
                problem = f'{_SILENT_READS[func]} reads a tensor on the host'
                _report(self.trace, problem, _place(frames), frames)
        return func(*args, **(kwargs or {}))


def _stack() -> Iterator[Frame]:
    """Iterate over the running lines, innermost first; for the backward pass, the forward lines."""
    node: Any = torch._C._current_autograd_node()
    if node is not None:
        for text in reversed(node.metadata.get('traceback_', [])):
            if match := _ANOMALY_FRAME.search(text):
                yield Frame(match[1], int(match[2]), match[3])
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield Frame(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        if frame.f_code is trace_steps.__code__:
            return
        frame = frame.f_back


def _place(frames: list[Frame]) -> str:
    """Describe the innermost line outside torch, and the line of ours that led to it."""
    outside = [frame for frame in frames if not frame.path.startswith(MACHINERY)]
    if not outside:
        return str(frames[-1])
    ours = next((f for f in outside if 'site-packages' not in f.path), None)
    if ours is None or ours is outside[0]:
        return str(outside[0])
    return f'{outside[0]}, called from {ours}'


def _report(trace: StepTrace, problem: str, place: str, frames: list[Frame]) -> None:
    for part, reader in _KNOWN_READERS.items():
        if any(part in frame.path for frame in frames):
            _add(trace.known_reads, f'{reader}: {problem} at {place}')
            return
    _add(trace.faults, f'{problem} at {place}')


def _compare(first: list[_Call], other: list[_Call], trace: StepTrace) -> None:
    for one, two in zip(first, other, strict=False):
        if one.operator != two.operator or one.place != two.place:
            _add(
                trace.faults,
                f'the steps differ from here on: {one.operator} at {one.place}, '
                f'with other data {two.operator} at {two.place}',
            )
            return
        if one.shapes != two.shapes:
            shapes = f'{list(one.shapes)}, with other data {list(two.shapes)}'
            _add(trace.faults, f'{one.operator} gives shapes {shapes}, at {one.place}')
    if len(first) != len(other):
        longer = max(first, other, key=len)
        extra = longer[min(len(first), len(other))]
        _add(trace.faults, f'only some steps go on to {extra.operator} at {extra.place}')


def _add(lines: list[str], line: str) -> None:
    if line not in lines:
        lines.append(line)
