# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Files of old exporters are taken as they are: by the runtime, converter and quantiser."""

from __future__ import annotations

import io
import warnings
from collections import Counter

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from helpers import config_file
from mmface.deploy.quantize import quantize_onnx
from mmface.deploy.runtime import FaceDetector
from mmface.toys.scenes import compose
from mmface.weights.convert import build_model, convert
from mmface.weights.onnx_repair import drop_weight_inputs, fold_batch_norms, free_sides, repair

RNG = np.random.default_rng(0)
#: Outputs of Star-Clouds' CenterFace; torch accepts no names that are numbers.
NAMES = ('537', '538', '539', '540')


class SmallCenterFace(nn.Module):
    """A network with the parts of CenterFace that old exporters leave unfolded."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1)),
        )
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 8, 2, 2, bias=False), nn.BatchNorm2d(8))
        self.heads = nn.ModuleList(nn.Conv2d(8, channels, 1) for channels in (1, 2, 2, 10))

    def forward(self, x):
        x = self.up(self.body(x)).relu()
        heat, *others = (head(x) for head in self.heads)
        return heat.sigmoid(), *others


def export(network, path, names, size=(10, 3, 32, 32)):
    """Export as the exporters of 2019 did: opset 9, weights among the inputs, one fixed size."""
    buffer = io.BytesIO()
    safe = [f'output_{name}' for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network,
            torch.zeros(size),
            buffer,
            input_names=['input.1'],
            output_names=safe,
            opset_version=9,
            keep_initializers_as_inputs=True,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    for old, new in zip(safe, names, strict=True):
        for node in model.graph.node:
            node.output[:] = [new if name == old else name for name in node.output]
        next(value for value in model.graph.output if value.name == old).name = new
    weights = {item.name for item in model.graph.initializer}
    assert weights < {value.name for value in model.graph.input}
    assert 'BatchNormalization' in kinds(model)
    onnx.save(model, path)
    return path


@pytest.fixture(scope='module')
def old(tmp_path_factory):
    """Return an old file and the network in it."""
    torch.manual_seed(0)
    network = SmallCenterFace().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return export(network, tmp_path_factory.mktemp('old') / 'a.onnx', NAMES), network


def kinds(model):
    return Counter(node.op_type for node in model.graph.node)


def make(nodes, weights, shape=(1, 4, 6, 6), out='y', opset=11):
    """Build a model from ``x`` to ``y``."""
    graph = helper.make_graph(
        nodes,
        'graph',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, list('BCHW'))],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=7)


def run(model, x, name='x'):
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider']
    )
    return session.run(None, {name: x})


def make_image(shape=(1, 4, 6, 6)):
    return RNG.normal(size=shape).astype(np.float32)


def test_repair__changes_no_output(old):
    path, _ = old
    model = onnx.load(path)
    x = make_image((10, 3, 32, 32))
    before = run(model, x, 'input.1')
    repair(model)
    assert [value.name for value in model.graph.input] == ['input.1']
    assert 'BatchNormalization' not in kinds(model)
    for left, right in zip(run(model, x, 'input.1'), before, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_drop_weight_inputs__raises_the_ir_version():
    node = helper.make_node('Conv', ['x', 'w'], ['y'])
    model = make([node], {'w': RNG.normal(size=(2, 4, 1, 1))})
    model.graph.input.append(helper.make_tensor_value_info('w', TensorProto.FLOAT, (2, 4, 1, 1)))
    model.ir_version = 3  # there, every weight must be an input
    assert drop_weight_inputs(model) == 1
    assert run(model, make_image())[0].shape == (1, 2, 6, 6)
    assert drop_weight_inputs(model) == 0


def test_free_sides__frees_batch_and_sides_of_inputs_and_outputs(old):
    path, network = old
    model = repair(onnx.load(path))
    assert free_sides(model) == ''
    for value in [*model.graph.input, *model.graph.output]:
        dims = value.type.tensor_type.shape.dim
        assert [dim.dim_param != '' for dim in dims] == [True, False, True, True], value.name
    image = make_image((2, 3, 64, 96))
    with torch.no_grad():
        expected = network(torch.from_numpy(image))
    for left, right in zip(run(model, image, 'input.1'), expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('nodes', 'weights', 'reason'),
    [
        (
            [
                helper.make_node('Reshape', ['x', 's'], ['r']),
                helper.make_node('Reshape', ['r', 's2'], ['y'], name='back'),
            ],
            dict(s=[1, -1], s2=[1, 4, 6, 6]),
            "Reshape 'r'",
        ),
        (
            [helper.make_node('Add', ['x', 'rows'], ['y'], name='prior')],
            {'rows': np.ones((6, 1))},
            'Add',
        ),
        ([helper.make_node('Resize', ['x', '', '', 's'], ['y'])], dict(s=[1, 4, 12, 12]), 'Resize'),
        ([helper.make_node('Concat', ['x', 'x'], ['y'], axis=2)], {}, "Concat 'y'"),
        (
            [helper.make_node('Concat', ['x', 'c'], ['y'], axis=1)],
            {'c': np.ones((1, 1, 6, 6))},
            'Concat',
        ),
        (
            [
                helper.make_node(
                    'ConvTranspose', ['x', 'w'], ['y'], strides=[2, 2], output_shape=[11, 11]
                )
            ],
            {'w': np.ones((4, 4, 2, 2))},
            'ConvTranspose',
        ),
    ],
)
def test_free_sides__names_the_operator_that_fixes_them(nodes, weights, reason):
    model = make(nodes, weights)
    before = model.SerializeToString()
    assert reason in free_sides(model)
    assert model.SerializeToString() == before


def test_free_sides__takes_values_per_channel_and_scales():
    nodes = [
        helper.make_node('Mul', ['x', 'c'], ['a']),
        helper.make_node('Resize', ['a', 'roi', 's'], ['b']),
        helper.make_node('Concat', ['b', 'b'], ['y'], axis=1),
    ]
    model = make(nodes, dict(c=np.ones((4, 1, 1)), roi=[], s=[1, 1, 2, 2]))
    assert free_sides(model) == ''
    assert run(model, make_image((3, 4, 5, 7)))[0].shape == (3, 8, 10, 14)


@pytest.mark.parametrize('kind', ['Conv', 'ConvTranspose'])
@pytest.mark.parametrize('groups', [1, 2, 4])
@pytest.mark.parametrize('bias', [True, False])
def test_fold_batch_norms__does_not_change_results(kind, groups, bias):
    out = 8
    per_group = 4 // groups if kind == 'Conv' else out // groups
    weights = dict(w=RNG.normal(size=(out if kind == 'Conv' else 4, per_group, 2, 2)))
    inputs = ['x', 'w']
    if bias:
        weights['b'] = RNG.normal(size=out)
        inputs.append('b')
    conv = helper.make_node(kind, inputs, ['conv'], name='conv', group=groups)
    model = make([conv, norm('conv', 'y', epsilon=1e-3)], weights | statistics(out))
    x = make_image()
    (before,) = run(model, x)
    assert fold_batch_norms(model) == []
    assert kinds(model) == {kind: 1}
    assert len(model.graph.initializer) == 2
    np.testing.assert_allclose(run(model, x)[0], before, rtol=1e-4, atol=1e-5)


def statistics(count):
    found = {key: RNG.normal(size=count) for key in ('scale', 'shift', 'mean')}
    return found | dict(var=RNG.uniform(0.1, 2, count))


def norm(source, target, **options):
    inputs = [source, 'scale', 'shift', 'mean', 'var']
    return helper.make_node('BatchNormalization', inputs, [target], **options)


def conv(source, target):
    return helper.make_node('Conv', [source, 'w'], [target])


#: Norms and whether each can be folded. Convolutions have 4 inputs and outputs.
CHAINS = {
    'default epsilon': ([conv('x', 'a'), norm('a', 'y')], 0),
    'two norms in a row': ([conv('x', 'a'), norm('a', 'b'), norm('b', 'y')], 0),
    'weights of two convolutions': (
        [conv('x', 'a'), norm('a', 'b'), conv('b', 'c'), norm('c', 'y')],
        0,
    ),
    'no convolution before': ([helper.make_node('Relu', ['x'], ['a']), norm('a', 'y')], 1),
    'activation between': (
        [conv('x', 'a'), helper.make_node('Relu', ['a'], ['b']), norm('b', 'y')],
        1,
    ),
    'another reader': (
        [conv('x', 'a'), norm('a', 'b'), helper.make_node('Add', ['a', 'b'], ['y'])],
        1,
    ),
    'two norms of one convolution': (
        [
            conv('x', 'a'),
            norm('a', 'b'),
            norm('a', 'c'),
            helper.make_node('Add', ['b', 'c'], ['y']),
        ],
        2,
    ),
}


@pytest.mark.parametrize('chain', CHAINS)
def test_fold_batch_norms__folds_only_what_is_exact(chain):
    nodes, count = CHAINS[chain]
    model = make(nodes, dict(w=RNG.normal(size=(4, 4, 1, 1))) | statistics(4))
    x = make_image()
    (before,) = run(model, x)
    assert len(fold_batch_norms(model)) == count
    assert kinds(model)['BatchNormalization'] == count
    np.testing.assert_allclose(run(model, x)[0], before, rtol=1e-4, atol=1e-5)


def test_fold_batch_norms__keeps_a_convolution_that_is_an_output():
    model = make([conv('x', 'y'), norm('y', 'z')], dict(w=np.ones((4, 4, 1, 1))) | statistics(4))
    model.graph.output.append(helper.make_tensor_value_info('z', TensorProto.FLOAT, list('BCHW')))
    before = run(model, make_image())
    assert fold_batch_norms(model) == ['z']
    assert len(run(model, make_image())) == len(before) == 2


def test_fold_batch_norms__keeps_one_with_statistics_of_the_batch():
    model = make(
        [conv('x', 'a'), norm('a', 'y', training_mode=1)],
        dict(w=np.ones((4, 4, 1, 1))) | statistics(4),
        opset=14,
    )
    assert fold_batch_norms(model) == ['y']


def test_runtime__takes_an_old_file_as_it_is(old):
    path, network = old
    content = path.read_bytes()
    detector = FaceDetector(path, score_thr=0.0)
    assert path.read_bytes() == content
    assert detector.session.get_overridable_initializers() == []
    assert (detector.spec.layout, detector.spec.size, detector.batch_size) == (
        'starclouds',
        (0, 0),
        None,
    )
    pixels, placement = detector.place(make_scene())
    blob = detector.blob([pixels], [placement])
    with torch.no_grad():
        expected = network(torch.from_numpy(blob))
    for left, right in zip(detector.run(blob), expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-3)
    assert FaceDetector(path, size=(64, 96)).spec.size == (64, 96)


def make_scene(number=0):
    return compose(np.random.default_rng(number), number, (80, 60))[0]


def test_runtime__names_what_fixes_the_sides_of_a_traced_image(tmp_path, old):
    model = onnx.load(old[0])
    model.graph.node.extend(
        [
            helper.make_node('Reshape', ['inner', 'shape'], ['540'], name='fixed'),
        ]
    )
    for node in model.graph.node[:-1]:
        node.output[:] = ['inner' if name == '540' else name for name in node.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array([10, 10, 8, 8]), 'shape'))
    onnx.save(model, tmp_path / 'a.onnx')
    with pytest.raises(ValueError, match=r"fixed to 32x32, and its operator Reshape 'fixed' needs"):
        FaceDetector(tmp_path / 'a.onnx')


def test_quantize__every_convolution_of_an_old_file(old, tmp_path):
    (tmp_path / 'images').mkdir()
    for number in range(2):
        cv2.imwrite(str(tmp_path / f'images/{number}.png'), make_scene(number))
    target = tmp_path / 'int8.onnx'
    assert quantize_onnx(old[0], target, tmp_path / 'images', keep_edges=False) == []
    graph = onnx.load(target).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    convs = [node for node in graph.node if 'Conv' in node.op_type]
    assert len(convs) == 8
    assert all(makers[name] == 'DequantizeLinear' for node in convs for name in node.input[:2])
    assert not any(node.op_type == 'BatchNormalization' for node in graph.node)
    assert FaceDetector(target).batch_size is None


def test_convert__whole_centerface_of_an_old_exporter(tmp_path):
    config = config_file('centerface_starclouds')
    torch.manual_seed(0)
    model = build_model(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.uniform_(module.running_var, 0.5, 1.5)

    class Maps(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            heat, *others = self.model(x, mode='tensor')
            return heat.sigmoid(), *others

    path = export(Maps().eval(), tmp_path / 'a.onnx', NAMES)
    assert kinds(onnx.load(path))['BatchNormalization'] == 3
    again = build_model(config).eval()
    again.load_state_dict(convert(path, [config]).state_dict)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        before, after = (each(image, mode='tensor') for each in (model, again))
    for left, right in zip(before, after, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)
