# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Exported files compute the outputs of torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from mmdet.registry import MODELS

from mmface.apis.config import load_config
from mmface.deploy.export.check import TOLERANCE, compare
from mmface.deploy.export.export import export_onnx, load_detector
from mmface.deploy.export.networks import build_network
from mmface.deploy.export.options import ExportOptions
from mmface.deploy.model_spec import METADATA_KEY, ModelSpec
from mmface.deploy.om_lint import lint
from mmface.weights.convert import convert

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
MODELS_OF = sorted(
    path.relative_to(CONFIGS).as_posix()
    for family in ('scrfd', 'centerface')
    for path in (CONFIGS / family).glob('*.py')
)
DONE: set[str] = set()
SCRFD = 'scrfd/scrfd_500m_bnkps.py'
GROUP_NORM = 'scrfd/scrfd_500m.py'
STAR_CLOUDS = 'centerface/centerface_starclouds.py'
IR = {13: 7, 17: 8}
SMALL = (64, 64)


def export(detector, name, path, check=True, **options):
    cfg, model = detector(name)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        result = export_onnx(cfg, model, path, ExportOptions(**options), () if check else None)
    return result, onnx.load(path)


def operators(model):
    return {node.op_type for node in model.graph.node}


def ports(values):
    return {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in values
    }


@pytest.mark.parametrize('name', MODELS_OF)
def test_every_config__exports_and_lints_clean(detector, tmp_path, name):
    key = repr(load_config(str(CONFIGS / name)).model.to_dict())
    if key in DONE:  # many configs differ only in their schedule
        return
    DONE.add(key)
    layout = 'insightface' if 'scrfd' in name else 'centerface'
    result, model = export(detector, name, tmp_path / 'a.onnx', layout=layout, size=SMALL)
    assert len(result.differences) == len(model.graph.output)
    assert max(item.excess for item in result.differences) < 1
    assert 'BatchNormalization' not in operators(model)
    assert (model.opset_import[0].version, model.ir_version) == (11, 6)
    assert lint(model, '5.0') == []


@pytest.mark.parametrize('opset', [13, 17])
@pytest.mark.parametrize(
    ('name', 'layout'),
    [
        (GROUP_NORM, 'raw'),
        (SCRFD, 'decoded'),
        ('centerface/centerface_small.py', 'decoded'),
    ],
)
def test_opset__is_the_one_asked_for_with_its_ir_version(detector, tmp_path, name, layout, opset):
    _, model = export(
        detector, name, tmp_path / 'a.onnx', layout=layout, size=SMALL, opset=opset, batch=2
    )
    assert model.opset_import[0].version == opset
    assert model.ir_version == IR[opset]
    assert all(shape[0] == 2 for shape in ports(model.graph.output).values())


@pytest.mark.parametrize(
    ('name', 'layout'),
    [(GROUP_NORM, 'insightface'), (SCRFD, 'decoded'), (STAR_CLOUDS, 'centerface')],
)
def test_dynamic__is_right_for_all_batches_and_sizes(detector, tmp_path, name, layout, capfd):
    path = tmp_path / 'a.onnx'
    detector(name)
    capfd.readouterr()
    result, model = export(detector, name, path, check=False, layout=layout, dynamic=True)
    (shape,) = ports(model.graph.input).values()
    assert shape == ['batch', 3, 'height', 'width']
    assert all(shape[0] == 'batch' for shape in ports(model.graph.output).values())
    network = build_network(detector(name)[1], result.spec, None)
    for shape in ((1, 3, 160, 160), (3, 3, 128, 64), (8, 3, 32, 96)):
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        found = compare(path, network, [(x, torch.from_numpy(x))], TOLERANCE)
        assert len(found) == len(network.output_names)
        assert max(item.excess for item in found) < 1
    assert capfd.readouterr() == ('', '')


def test_metadata__is_the_specification(detector, tmp_path):
    result, model = export(detector, SCRFD, tmp_path / 'a.onnx', size=(64, 96))
    (prop,) = model.metadata_props
    assert prop.key == METADATA_KEY
    assert ModelSpec.from_json(prop.value) == result.spec
    assert result.spec.size == (64, 96)
    assert list(ports(model.graph.input).items()) == [('image', [1, 3, 64, 96])]
    assert model.producer_name == 'mmface'


def test_insightface__has_names_order_and_shapes_of_the_package(detector, tmp_path):
    _, model = export(
        detector, SCRFD, tmp_path / 'a.onnx', False, layout='insightface', dynamic=True
    )
    assert ports(model.graph.input) == {'input.1': ['batch', 3, 'height', 'width']}
    assert list(ports(model.graph.output).items()) == [
        (f'{kind}_{stride}', ['batch', f'priors_{stride}', width])
        for kind, width in (('score', 1), ('bbox', 4), ('kps', 10))
        for stride in (8, 16, 32)
    ]


def test_centerface__has_the_sizes_of_the_ascend_recipe(detector, tmp_path):
    _, model = export(
        detector, 'centerface/centerface_small.py', tmp_path / 'a.onnx', False, layout='centerface'
    )
    assert ports(model.graph.input) == {'image': [1, 3, 800, 800]}
    sizes = [int(np.prod(shape)) for shape in ports(model.graph.output).values()]
    assert sizes == [40_000, 80_000, 80_000, 400_000]


@pytest.mark.parametrize(('name', 'operator'), [(SCRFD, 'Sub'), (STAR_CLOUDS, '')])
def test_fold_normalize__takes_pixels(detector, tmp_path, name, operator):
    result, model = export(detector, name, tmp_path / 'a.onnx', size=SMALL, fold_normalize=True)
    assert result.spec.normalized_inside
    assert max(item.excess for item in result.differences) < 1
    assert ('Sub' in operators(model)) == bool(operator)
    assert len(result.notes) == 1


def test_half__keeps_ports_and_reports_the_difference(detector, tmp_path):
    result, model = export(
        detector, SCRFD, tmp_path / 'a.onnx', layout='insightface', size=SMALL, half=True
    )
    assert max(item.largest for item in result.differences) > 1e-5
    ports = [*model.graph.input, *model.graph.output]
    assert {value.type.tensor_type.elem_type for value in ports} == {onnx.TensorProto.FLOAT}
    assert lint(model) == []


def test_check__refuses_what_differs_and_keeps_the_old_file(detector, tmp_path):
    """NaN is not equal to any value."""
    cfg, _ = detector(SCRFD)
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(detector(SCRFD)[1].state_dict())
    model.bbox_head.module.reg_convs[1].bias.data[0] = float('nan')
    path = tmp_path / 'a.onnx'
    path.write_text('old')
    with pytest.raises(ValueError, match=r'differs from torch by more than .*: bbox_16 by up'):
        export_onnx(cfg, model, path, ExportOptions(size=SMALL), ())
    assert path.read_text() == 'old'
    assert [file.name for file in tmp_path.iterdir()] == ['a.onnx']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(size=(64, 100)), 'size 64 100 .*multiples of 32'),
        (dict(size=(64, 64), dynamic=True), 'a dynamic file has no fixed size'),
        (dict(batch=0), 'batch 0'),
        (dict(layout='decoded', half=True), 'half precision'),
    ],
)
def test_options_that_do_not_go__are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ExportOptions(**options)


def test_checkpoint_of_another_model__is_refused(detector, tmp_path):
    torch.save(detector(SCRFD)[1].state_dict(), tmp_path / 'a.pth')
    cfg, _ = detector(GROUP_NORM)
    with pytest.raises(ValueError, match=r'a\.pth does not fit the model of this config'):
        load_detector(cfg, tmp_path / 'a.pth')


def test_images_at_their_own_size__need_a_size(detector, tmp_path):
    with pytest.raises(ValueError, match='at its own size: choose a size'):
        export(detector, STAR_CLOUDS, tmp_path / 'a.onnx')


@pytest.mark.reference
@pytest.mark.parametrize(
    ('name', 'weights', 'published'),
    [
        (SCRFD, 'scrfd_500m_bnkps_folded.pth', 'scrfd_500m_bnkps.onnx'),
        (
            'scrfd/scrfd_2.5g_bnkps.py',
            'scrfd_2.5g_bnkps_folded.pth',
            'scrfd_2.5g_bnkps_official.onnx',
        ),
    ],
)
def test_published_weights__give_the_outputs_of_the_published_file(
    detector, reference_dir, tmp_path, name, weights, published
):
    folder = reference_dir / 'data/scrfd/weights'
    cfg, _ = detector(name)
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(convert(folder / weights, [CONFIGS / name]).state_dict, strict=False)
    path = tmp_path / 'a.onnx'
    export_onnx(cfg, model, path, ExportOptions('insightface'))
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 640, 640)).astype(np.float32)
    outputs = []
    for file in (path, folder / published):
        session = ort.InferenceSession(file, providers=['CPUExecutionProvider'])
        outputs.append(session.run(None, {session.get_inputs()[0].name: x}))
    assert len(outputs[0]) == len(outputs[1]) == 9
    for ours, theirs in zip(*outputs, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
