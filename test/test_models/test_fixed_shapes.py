# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A training step has the same operators and shapes for any faces, and reads no value.

NPUs compile an operator for each new shape, and every accelerator is idle while the host waits
for a value. The step is traced on the CPU. To test a new detector, add its name to ``DETECTORS``.
"""

from __future__ import annotations

import mmengine.device.utils
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.optim import build_optim_wrapper
from mmface_benchmark.step_trace import trace_steps
from torch import nn

from helpers import batch_of, faces, load_config, random_boxes
from mmface.engine.master_weights import cast_to_half
from mmface.engine.step_guard import StepGuard
from mmface.models.task_modules.padded_ground_truth import SMALLEST_BUCKET

DETECTORS = [
    'scrfd/scrfd_500m_bnkps.py',
    'scrfd/scrfd_10g.py',
    'centerface/centerface_small.py',
    'centernet2/centernet2_toy.py',
]
# Functions that run on the host by design: the single upload of faces, and NMS without a kernel.
HOST_FUNCTIONS = ('pack_ground_truth', 'suppress_fixed')
SIZE = 128  # input pixels
BATCH = 2
FACES = (1, 30, 0)  # faces per image; all are padded to the same size
PRECISIONS = {
    'fp32': dict(type='OptimWrapper'),
    'o1': dict(type='AutocastOptimWrapper', loss_scale='dynamic'),
    # float16 convolutions are very slow on a CPU.
    'o2': dict(type='O2OptimWrapper', dtype='bfloat16', loss_scale=128.0),
}


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    """Use the mixed precision of the CPU, even if there is an accelerator."""
    monkeypatch.setattr(mmengine.device.utils, 'DEVICE', 'cpu')


def batch(count: int) -> dict:
    """Build a batch of images with these numbers of faces; half of the keypoints are labelled."""
    generator = torch.Generator().manual_seed(0)
    gts = []
    for _ in range(BATCH):
        boxes = random_boxes(count, place=(0, SIZE / 2), side=(4, SIZE / 2), generator=generator)
        keypoints = torch.rand(count, 5, 3, generator=generator) * SIZE
        keypoints[..., 2] = (keypoints[..., 2] > SIZE / 2).float()
        gts.append(faces(boxes, keypoints))
    return batch_of(gts, SIZE)


def step_of(name: str, precision: dict):
    """Build the detector of a config and return its training step."""
    torch.manual_seed(0)
    cfg = load_config(name)
    cfg.model.data_preprocessor.pad_size = None
    for head in ('rpn_head', 'roi_head'):  # on a CPU, two-stage detectors use other code
        if head in cfg.model:
            cfg.model[head].fixed_shape = True
    cfg.optim_wrapper.update(precision)
    # Adam reads its step counter on a CPU.
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)
    model = MODELS.build(cfg.model)
    model.init_weights()
    if 'dtype' in precision:
        cast_to_half(model, precision['dtype'])
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    guard = StepGuard(model, None if 'dtype' in precision else wrapper.optimizer)

    def step(data):
        model.train_step(data, wrapper)
        guard.end_step()  # as in real training

    return step


@pytest.mark.parametrize('name', DETECTORS)
@pytest.mark.parametrize('precision', PRECISIONS)
def test_training_step__has_fixed_shapes_and_reads_nothing(name, precision):
    step = step_of(name, PRECISIONS[precision])
    trace = trace_steps(step, [batch(n) for n in FACES], host_functions=HOST_FUNCTIONS)
    assert not trace.faults, str(trace)
    assert trace.num_operators > 500
    # In precisions with a loss scaler, it reads whether a gradient overflowed.
    assert all(read.startswith('loss scaler: ') for read in trace.known_reads)
    assert bool(trace.known_reads) is (precision == 'o2')


def test_training_step__next_bucket_of_faces_is_another_shape():
    """Check that the tracer sees a new shape; equal batches alone would not show this."""
    step = step_of(DETECTORS[0], PRECISIONS['fp32'])
    trace = trace_steps(step, [batch(SMALLEST_BUCKET), batch(SMALLEST_BUCKET + 1)])
    assert any('batched_atss_assigner.py' in fault for fault in trace.faults)


class Faulty(nn.Module):
    """A module with one operation that a training step must not contain."""

    def __init__(self, fault) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.fault = fault

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.fault(values * self.weight)


def put(x, mask):
    x = x.clone()
    x[mask] = x[mask] * 2
    return x


# The fault, the operator that the report names, and the text of the report.
FAULTS = {
    'nonzero': (lambda x: x[(x > 0).nonzero()[:, 0]], 'aten::nonzero', 'data-dependent'),
    'where': (lambda x: x[torch.where(x > 0)], 'aten::nonzero', 'data-dependent'),
    'masked_select': (lambda x: x.masked_select(x > 0), 'aten::masked_select', 'data-dependent'),
    'unique': (lambda x: x + x.detach().unique().sum(), 'aten::_unique2', 'data-dependent'),
    'mask': (lambda x: x[x > 0], 'aten::index.Tensor', 'indexes with a mask'),
    'byte mask': (lambda x: x[(x > 0).byte()], 'aten::index.Tensor', 'indexes with a mask'),
    'put': (lambda x: put(x, x > 0), 'aten::index_put_', 'indexes with a mask'),
    'repeat': (
        lambda x: x.sum() * x.new_ones(8).repeat_interleave((x > 0).long()),
        'aten::repeat_interleave.Tensor',
        'has no output_size',
    ),
    'item': (lambda x: x * x.max().item(), 'aten::_local_scalar_dense', 'on the host'),
    'if': (lambda x: x if (x > 0).any() else -x, 'aten::_local_scalar_dense', 'on the host'),
    'int': (lambda x: x[: int((x > 0).sum())], 'aten::_local_scalar_dense', 'on the host'),
    'equal': (lambda x: x * torch.equal(x, x), 'aten::equal', 'on the host'),
    'tolist': (lambda x: x * len(x.tolist()), 'tolist()', 'on the host'),
    'numpy': (lambda x: x * x.detach().numpy().max(), 'numpy()', 'on the host'),
    'array': (lambda x: x * float(np.asarray(x.detach()).max()), 'NumPy', 'on the host'),
    'cpu': (lambda x: x.cpu(), 'cpu()', 'on the host'),
}


def train(model: nn.Module):
    def step(values: torch.Tensor) -> None:
        model.zero_grad()
        model(values).sum().backward()

    return step


@pytest.mark.filterwarnings('ignore:indexing with dtype torch.uint8')
@pytest.mark.parametrize('fault', FAULTS)
def test_trace__names_the_operator_and_the_line(fault):
    code, operator, problem = FAULTS[fault]
    trace = trace_steps(train(Faulty(code)), [torch.ones(8), torch.ones(8)])
    line = code.__code__.co_firstlineno
    found = [f for f in trace.faults if operator in f and problem in f and __file__ in f]
    assert found, str(trace)
    if fault != 'put':
        assert f'{__file__}:{line} in <lambda>: ' in found[0]


def test_trace__names_the_forward_line_of_a_fault_in_the_backward_pass():
    """Trace a selection by mask, whose gradient writes by mask."""
    trace = trace_steps(train(Faulty(lambda x: x[x > 0])), [torch.ones(8)])
    found = [fault for fault in trace.faults if 'aten::index_put ' in fault]
    assert found, str(trace)
    assert f'{__file__}:' in found[0]
    assert 'x[x > 0]' in found[0]


def test_trace__shape_that_differs_between_batches_is_a_fault():
    count = iter([2, 2, 3])

    def step(values: torch.Tensor) -> None:
        values[: next(count)].neg()

    trace = trace_steps(step, [torch.ones(4), torch.ones(4)])
    assert len(trace.faults) == 2, str(trace)
    assert 'aten::slice gives shapes [(2,)], with other data [(3,)]' in trace.faults[0]
    assert 'values[: next(count)].neg()' in trace.faults[0]


@pytest.mark.parametrize(
    ('second', 'message'),
    [(torch.abs, 'the steps differ from here on: aten::neg'), (None, 'only some steps go on to')],
)
def test_trace__other_course_of_the_step_is_a_fault(second, message):
    operators = iter([torch.neg, torch.neg, second])

    def step(values: torch.Tensor) -> None:
        values = values + 1
        if operator := next(operators):
            operator(values)

    trace = trace_steps(step, [torch.ones(4), torch.ones(4)])
    assert len(trace.faults) == 1, str(trace)
    assert message in trace.faults[0]


def test_trace__host_functions_and_known_readers_are_no_faults():
    parameter = nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scaler = torch.amp.GradScaler('cpu')

    def on_the_host(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(8) + int(values.sum())

    def step(values: torch.Tensor) -> None:
        scaler.scale((parameter * on_the_host(values)[:4]).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    batches = [torch.ones(4), torch.ones(4)]
    trace = trace_steps(step, batches, host_functions=['on_the_host'])
    assert not trace.faults, str(trace)
    assert trace.known_reads
    assert all(read.startswith('loss scaler: ') for read in trace.known_reads)
    assert trace_steps(step, batches, host_functions=()).faults
