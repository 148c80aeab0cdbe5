# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The lint reports what ATC is known to reject, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmface.deploy.om_lint import lint
from mmface.weights.onnx_repair import load_onnx

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64


def make(nodes, weights=None, shape=(1, 4), out=(1, 4), opset=11, ir=6, kind=FLOAT, name='x'):
    """Build a model from ``x`` to ``y``."""
    graph = helper.make_graph(
        nodes,
        'graph',
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info('y', kind, out)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=ir)


def relu(source='x'):
    return helper.make_node('Relu', [source], ['y'], name='relu')


def one(model, cann='8.0'):
    (finding,) = lint(model, cann)
    assert finding.remedy
    return f'{finding.where}: {finding.problem}'


def test_plain_graph__has_no_findings():
    shape = helper.make_node('Constant', [], ['s'], value=numpy_helper.from_array(np.array([4, 1])))
    nodes = [shape, helper.make_node('Reshape', ['x', 's'], ['y'])]
    assert lint(make(nodes, out=(4, 1))) == []


@pytest.mark.parametrize(
    ('opset', 'ir', 'cann', 'message'),
    [
        (17, 8, '6.0', 'IR version 8: CANN 6.0 reads up to 7|opset 17: CANN 6.0 reads 9 to 13'),
        (13, 7, '5.0', ''),
        (17, 8, '8.0', ''),
        (18, 8, '8.0', 'opset 18: CANN 8.0 reads 9 to 17'),
        (11, 10, '9.0', 'IR version 10'),
    ],
)
def test_versions(opset, ir, cann, message):
    found = [item.problem for item in lint(make([relu()], opset=opset, ir=ir), cann)]
    assert len(found) == len([part for part in message.split('|') if part])
    assert all(wanted in item for wanted, item in zip(message.split('|'), found, strict=False))


def test_operator_of_another_domain():
    model = make([helper.make_node('Gelu', ['x'], ['y'], domain='com.microsoft')])
    model.opset_import.append(helper.make_opsetid('com.microsoft', 1))
    assert "domain 'com.microsoft'" in one(model)


def test_dynamic_sides_and_missing_shape():
    found = [item.where for item in lint(make([relu()], shape=('batch', 4), out=None))]
    assert found[-2:] == ["input 'x'", "output 'y'"]
    assert 'dynamic sides: batch' in lint(make([relu()], shape=('batch', 4)))[0].problem


@pytest.mark.parametrize(('name', 'message'), [('', 'no name'), ('y', 'twice'), ('a:b', '--input')])
def test_names(name, message):
    assert any(message in item.problem for item in lint(make([relu(name)], name=name)))


def test_forbidden_operators__are_counted():
    nodes = [helper.make_node('NonZero', ['x'], [f'n{k}'], name=f'nz{k}') for k in range(3)]
    assert one(make([*nodes, relu()])).startswith('NonZero nz0, nz1 and 1 more: ')


def test_forbidden_operator_inside_a_branch__is_found():
    branch = helper.make_graph(
        [helper.make_node('NonZero', ['x'], ['inner'], name='hidden')],
        'branch',
        [],
        [helper.make_tensor_value_info('inner', INT64, (2, 4))],
    )
    node = helper.make_node('If', ['c'], ['i'], then_branch=branch, else_branch=branch, name='if')
    found = [item.where for item in lint(make([node, relu()], dict(c=np.array(True))))]
    assert found == ['If if', 'NonZero hidden, hidden']


def test_shape_that_is_computed():
    nodes = [
        helper.make_node('Shape', ['x'], ['s'], name='shape'),
        helper.make_node('Reshape', ['x', 's'], ['y'], name='reshape'),
    ]
    found = [f'{item.where}: {item.problem}' for item in lint(make(nodes))]
    assert found == [
        'Shape shape: the graph reads shapes while it runs',
        'Reshape reshape: a shape is computed while the graph runs',
    ]


def test_shape_from_constants__is_none():
    nodes = [
        helper.make_node('Concat', ['a', 'b'], ['s'], axis=0),
        helper.make_node('Reshape', ['x', 's'], ['y']),
    ]
    weights = dict(a=np.array([2]), b=np.array([2]))
    assert lint(make(nodes, weights, out=(2, 2))) == []


def test_float64__is_found_in_weights_and_values():
    nodes = [
        helper.make_node('Cast', ['x'], ['d'], to=DOUBLE),
        helper.make_node('Add', ['d', 'w'], ['e']),
        helper.make_node('Cast', ['e'], ['y'], to=FLOAT),
    ]
    assert 'tensors w, d and 1 more: float64' in one(make(nodes, dict(w=np.ones(4))))


@pytest.mark.parametrize(('kind', 'name'), [(DOUBLE, 'float64'), (INT64, 'int64')])
def test_type_of_ports(kind, name):
    node = helper.make_node('Add', ['x', 'x'], ['y'])
    found = [item.problem for item in lint(make([node], kind=kind))]
    assert found == [f'its type is {name}'] * 2


def test_quantised_file():
    nodes = [
        helper.make_node('QuantizeLinear', ['x', 's', 'z'], ['q'], name='q'),
        helper.make_node('DequantizeLinear', ['q', 's', 'z'], ['y'], name='d'),
    ]
    weights = dict(s=np.float32(1), z=np.uint8(0))
    assert all('AMCT' in item.remedy for item in lint(make(nodes, weights)))


def test_unknown_version_of_cann():
    with pytest.raises(ValueError, match=r'CANN 4: expected one of 5\.0'):
        lint(make([relu()]), '4')


def test_load__says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match='no such file'):
        load_onnx(tmp_path / 'a.onnx')
    (tmp_path / 'a.onnx').write_text('text')
    with pytest.raises(ValueError, match='not an ONNX file'):
        load_onnx(tmp_path / 'a.onnx')


def test_tool__ends_with_1_on_findings(run_tool, tmp_path):
    good, bad = tmp_path / 'good.onnx', tmp_path / 'bad.onnx'
    onnx.save(make([relu()]), good)
    onnx.save(make([relu()], shape=('batch', 4)), bad)
    done = run_tool('tools/deploy/lint_om.py', good)
    assert f'{good}: nothing found' in done.stdout
    assert 'a lint, not a conversion' in done.stdout
    done = run_tool('tools/deploy/lint_om.py', good, bad, ok=False)
    assert done.returncode == 1
    assert "bad.onnx: input 'x': dynamic sides: batch\n    export with a fixed size" in done.stdout
