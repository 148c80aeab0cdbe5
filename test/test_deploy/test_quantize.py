# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Quantised files find the same faces as the float files, and contain their specification."""

from __future__ import annotations

import re
from collections import Counter

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmface.deploy.model_spec import METADATA_KEY, ModelSpec
from mmface.deploy.quantize import METHODS, quantize_onnx
from mmface.deploy.runtime import FaceDetector
from mmface.toys.scenes import compose

SPEC = ModelSpec(
    family='centerface',
    layout='raw',
    size=(64, 64),
    mean=(127.5,) * 3,
    std=(128.0,) * 3,
    rgb=True,
    resize='stretch',
    strides=(4,),
    num_priors=1,
    num_keypoints=0,
    convention='centernet',
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Create drawn images, and a network of two convolutions."""
    root = tmp_path_factory.mktemp('quantize')
    (root / 'images').mkdir()
    for number in range(3):
        image, _ = compose(np.random.default_rng(number), number, (80, 60))
        cv2.imwrite(str(root / f'images/{number}.png'), image)
    rng = np.random.default_rng(0)
    weights = {
        'stem': rng.normal(size=(8, 3, 4, 4)) / 7,
        'heat': rng.normal(size=(1, 8, 1, 1)),
        'size': rng.normal(size=(2, 8, 1, 1)),
        'offset': rng.normal(size=(2, 8, 1, 1)),
        'scales': np.ones(4),
    }
    nodes = [
        helper.make_node('Conv', ['image', 'stem'], ['a'], name='stem_conv', strides=[4, 4]),
        helper.make_node('Relu', ['a'], ['r']),
        # As torch exports it: the region input exists and is empty.
        helper.make_node('Constant', [], ['roi'], value=numpy_helper.from_array(np.float32([]))),
        helper.make_node('Resize', ['r', 'roi', 'scales'], ['b'], mode='nearest'),
        helper.make_node('Conv', ['b', 'heat'], ['logit'], name='heat_conv'),
        helper.make_node('Sigmoid', ['logit'], ['heatmap']),
        helper.make_node('Conv', ['b', 'size'], ['sizes'], name='size_conv'),
        helper.make_node('Conv', ['b', 'offset'], ['offsets'], name='offset_conv'),
    ]
    graph = helper.make_graph(
        nodes,
        'graph',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, (1, 3, 64, 64))],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, channels, 16, 16))
            for name, channels in (('heatmap', 1), ('sizes', 2), ('offsets', 2))
        ],
        [numpy_helper.from_array(value.astype('f4'), key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 11)], ir_version=6)
    helper.set_model_props(model, {METADATA_KEY: SPEC.to_json()})
    onnx.save(model, root / 'float.onnx')
    return root


def outputs(path, folder):
    detector = FaceDetector(path, score_thr=None)
    assert detector.spec == SPEC
    pixels, placement = detector.place(cv2.imread(str(folder / 'images/0.png')))
    return detector.run(detector.blob([pixels], [placement]))


@pytest.mark.parametrize('method', METHODS)
def test_quantised_file__is_near_the_float_one(folder, tmp_path, capsys, method):
    target = tmp_path / 'int8.onnx'
    kept = quantize_onnx(
        folder / 'float.onnx', target, folder / 'images', method=method, keep_edges=False
    )
    assert kept == []
    assert capsys.readouterr() == ('', '')
    model = onnx.load(target)
    assert model.opset_import[0].version == 13
    weights = [item for item in model.graph.initializer if item.data_type == TensorProto.INT8]
    assert sorted(item.dims[0] for item in weights if len(item.dims) == 4) == [1, 2, 2, 8]
    # A scale for each channel.
    assert any(list(item.dims) == [8] for item in model.graph.initializer)
    for before, after in zip(
        outputs(folder / 'float.onnx', folder), outputs(target, folder), strict=True
    ):
        assert after.dtype == np.float32
        assert 0 < np.abs(after - before).mean() < 0.03 * (1 + np.abs(before).max())


def test_keep_float__leaves_those_nodes_alone(folder, tmp_path):
    target = tmp_path / 'int8.onnx'
    names = ['size_conv', 'offset_conv']
    kept = quantize_onnx(
        folder / 'float.onnx', target, folder / 'images', 2, keep_float=names, keep_edges=False
    )
    assert kept == names
    model = onnx.load(target)
    floats = {item.name for item in model.graph.initializer if item.data_type == TensorProto.FLOAT}
    assert {'size', 'offset'} <= floats
    assert 'heat' not in floats
    assert Counter(node.op_type for node in model.graph.node)['Conv'] == 4


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(method='median'), "method 'median'"),
        (dict(max_images=0), '0 calibration images'),
        (dict(keep_float=['nose']), 'no node of .* has a name that contains nose'),
        ({}, 'use keep_edges=False'),
    ],
)
def test_wrong_options__are_refused(folder, tmp_path, options, message):
    target = tmp_path / 'int8.onnx'
    with pytest.raises(ValueError, match=message):
        quantize_onnx(folder / 'float.onnx', target, folder / 'images', **options)
    assert not target.exists()


def test_quantised_file__is_not_quantised_again(folder, run_tool, tmp_path):
    target = tmp_path / 'int8.onnx'
    tool = 'tools/deploy/quantize_onnx.py'
    images = folder / 'images'
    source = folder / 'float.onnx'
    done = run_tool(tool, source, target, '--calibration', images, '--quantize-edges')
    assert f'wrote {target}' in done.stdout
    assert re.search(r'on this CPU \(.*\), it takes \d+\.\d\dx the time', done.stdout)
    done = run_tool(tool, target, tmp_path / 'b.onnx', '--calibration', images, ok=False)
    assert done.returncode == 2
    assert 'is already quantised' in done.stderr


def test_folder_without_images__is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match='no image'):
        quantize_onnx(folder / 'float.onnx', tmp_path / 'a.onnx', tmp_path)


@pytest.mark.reference
def test_published_file__whose_resizes_have_empty_inputs(folder, reference_dir, tmp_path):
    source = reference_dir / 'data/scrfd/weights/scrfd_500m_bnkps.onnx'
    kept = quantize_onnx(source, tmp_path / 'int8.onnx', folder / 'images', max_images=2)
    assert FaceDetector(tmp_path / 'int8.onnx').spec.family == 'scrfd'
    # The published file numbers its nodes: seven convolutions up to stride 4, and for each of
    # three strides one convolution for scores, boxes and keypoints each.
    convolutions = [name for name in kept if name.startswith('Conv')]
    assert convolutions[:7] == [f'Conv_{number}' for number in range(0, 14, 2)]
    assert len(convolutions) == 7 + 9
    assert sum(name.startswith('Sigmoid') for name in kept) == 3
