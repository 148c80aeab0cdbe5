# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Changed graphs compute the same numbers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmface.deploy.export.graph import (
    drop_identities,
    fold_all_batch_norms,
    fold_shapes,
    normalise_inside,
    to_half,
)

RNG = np.random.default_rng(0)


def make(nodes, weights, shape=(1, 4, 6, 6)):
    """Build a model from ``x`` to ``y``."""
    graph = helper.make_graph(
        nodes,
        'graph',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, list('BCHW'))],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 11)], ir_version=6)


def run(model, x):
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    return session.run(None, {'x': x})[0]


def kinds(model):
    return Counter(node.op_type for node in model.graph.node)


def make_image(shape=(1, 4, 6, 6)):
    return RNG.normal(size=shape).astype(np.float32)


def test_fold_all_batch_norms__refuses_one_that_stands_alone():
    weights = {name: np.ones(4) for name in ('scale', 'shift', 'mean', 'var')}
    model = make(
        [
            helper.make_node('Relu', ['x'], ['r']),
            helper.make_node('BatchNormalization', ['r', *weights], ['y'], epsilon=1e-5, name='bn'),
        ],
        weights,
    )
    with pytest.raises(ValueError, match='batch norm bn does not follow'):
        fold_all_batch_norms(model)


@pytest.mark.parametrize(
    ('mean', 'std', 'added'),
    [
        ((127.5, 120.0, 110.0), (128.0, 60.0, 70.0), {'Sub': 1}),
        ((0.0, 0.0, 0.0), (128.0, 60.0, 70.0), {}),
        ((127.5, 127.5, 127.5), (1.0, 1.0, 1.0), {'Sub': 1}),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), {}),
    ],
)
def test_normalise_inside__is_exact_up_to_the_border(mean, std, added):
    weights = dict(w=RNG.normal(size=(5, 3, 3, 3)), b=RNG.normal(size=5))
    node = helper.make_node('Conv', ['x', 'w', 'b'], ['y'], name='stem', pads=[1, 1, 1, 1])
    model = make([node], weights, (1, 3, 6, 6))
    x = RNG.integers(0, 256, (1, 3, 6, 6)).astype(np.float32)
    shape = (1, 3, 1, 1)
    wanted = run(model, ((x - np.reshape(mean, shape)) / np.reshape(std, shape)).astype('f4'))
    done = normalise_inside(model, mean, std)
    assert kinds(model) == {'Conv': 1, **added}
    assert ('in front' in done) == bool(added)
    np.testing.assert_allclose(run(model, x), wanted, rtol=1e-4, atol=1e-4)


def test_normalise_inside__multiplies_where_no_convolution_is_first():
    model = make([helper.make_node('Relu', ['x'], ['y'])], {}, (1, 3, 6, 6))
    x = RNG.integers(0, 256, (1, 3, 6, 6)).astype(np.float32)
    assert 'multiplication' in normalise_inside(model, (100.0,) * 3, (50.0,) * 3)
    np.testing.assert_allclose(run(model, x), np.maximum((x - 100) / 50, 0), rtol=1e-5, atol=1e-6)


def test_to_half__computes_in_half_and_keeps_the_ports():
    weights = dict(w=RNG.normal(size=(4, 4, 1, 1)), scales=[1, 1, 2, 2], roi=[])
    nodes = [
        helper.make_node('Conv', ['x', 'w'], ['c'], name='c'),
        helper.make_node('Resize', ['c', 'roi', 'scales'], ['y'], mode='nearest'),
    ]
    model = make(nodes, weights)
    x = make_image()
    before = run(model, x)
    to_half(model)
    after = run(model, x)
    assert after.dtype == np.float32
    types = {item.name: item.data_type for item in model.graph.initializer}
    assert types['w'] == TensorProto.FLOAT16
    assert types['scales'] == TensorProto.FLOAT
    assert 0 < np.abs(after - before).max() < 0.02


def test_drop_identities_and_fold_shapes__leave_numbers():
    nodes = [
        helper.make_node('Identity', ['w'], ['v']),
        helper.make_node('Conv', ['x', 'v'], ['c'], name='c'),
        helper.make_node('Shape', ['c'], ['shape'], name='shape'),
        helper.make_node('Reshape', ['c', 'shape'], ['y']),
    ]
    model = make(nodes, dict(w=RNG.normal(size=(4, 4, 1, 1))))
    x = make_image()
    before = run(model, x)
    drop_identities(model)
    fold_shapes(model)
    assert kinds(model) == {'Conv': 1, 'Reshape': 1}
    np.testing.assert_array_equal(run(model, x), before)
