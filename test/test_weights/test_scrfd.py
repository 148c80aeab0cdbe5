# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Published SCRFD weights give the same outputs in mmface."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from helpers import REPO, config_file
from mmface.apis.config import load_config
from mmface.deploy.export.export import export_onnx
from mmface.deploy.export.options import ExportOptions
from mmface.utils.checkpoint import load_checkpoint_file
from mmface.weights.convert import build_model, convert
from mmface.weights.onnx_convs import ConvWeights, OnnxNetwork, read_onnx
from mmface.weights.scrfd import from_onnx, rename_key

FILES = {
    'scrfd_2.5g_bnkps_official.onnx': 'scrfd_2.5g_bnkps',
    'scrfd_500m_bnkps.onnx': 'scrfd_500m_bnkps',
    'scrfd_500m_bnkps_old_export.onnx': 'scrfd_500m_bnkps',
}
# A sample of both kinds of heads; the complete tables are checked in test_scrfd_sizes.py.
NAMES = {
    'backbone.stem.0.weight': 'backbone.stem.0.weight',
    'bbox_head.cls_stride_convs.0.1.conv.weight': 'bbox_head.module.towers.0.1.conv.weight',
    'bbox_head.cls_stride_convs.(16, 16).0.bn.bias': 'bbox_head.module.towers.1.0.bn.bias',
    'bbox_head.stride_kps.(32, 32).bias': 'bbox_head.module.kps_convs.2.bias',
    'bbox_head.scales.2.scale': 'bbox_head.module.scales.2.scale',
}


@pytest.mark.parametrize(('theirs', 'ours'), NAMES.items())
def test_rename_key(theirs, ours):
    assert rename_key(theirs) == ours


def letterbox(path: Path) -> np.ndarray:
    """Return an image as normalised (1, 3, 640, 640) RGB, padded with zero."""
    image = cv2.imread(str(path))
    factor = 640 / max(image.shape[:2])
    size = (int(image.shape[1] * factor + 0.5), int(image.shape[0] * factor + 0.5))
    canvas = np.full((640, 640, 3), 127.5, np.float32)
    canvas[: size[1], : size[0]] = cv2.resize(image, size)
    return ((canvas[..., ::-1].transpose(2, 0, 1)[None] - 127.5) / 128).astype(np.float32)


@pytest.mark.reference
@pytest.mark.parametrize(('file', 'name'), FILES.items())
def test_onnx__converted_maps_equal_onnxruntime_on_real_images(
    file, name, reference_dir, door, tmp_path
):
    source = reference_dir / 'data/scrfd/weights' / file
    target = tmp_path / 'converted.pth'
    assert name in door('tools/weights/convert.py', source, target).stdout
    model = build_model(config_file(name)).eval()
    model.load_state_dict(load_checkpoint_file(target)['state_dict'])
    session = onnxruntime.InferenceSession(str(source), providers=['CPUExecutionProvider'])
    images = sorted((reference_dir / 'data/wider/WIDER_val/images').glob('*/*.jpg'))[::200]
    assert len(images) >= 3
    for image in images:
        blob = letterbox(image)
        with torch.no_grad():
            maps = model(torch.from_numpy(blob), mode='tensor')
        ours = [
            level.permute(0, 2, 3, 1).reshape(-1, channels)
            for maps_of_kind, channels in zip(maps, (1, 4, 10), strict=True)
            for level in maps_of_kind
        ]
        ours = [*(level.sigmoid() for level in ours[:3]), *ours[3:]]
        theirs = session.run(None, {session.get_inputs()[0].name: blob})
        for left, right in zip(
            ours, sorted(theirs, key=lambda m: (m.shape[-1], -m.size)), strict=True
        ):
            right = right.reshape(-1, right.shape[-1])
            np.testing.assert_allclose(left.numpy(), right, atol=1e-5, rtol=1e-5)


@pytest.mark.reference
def test_pth__gives_the_same_maps_as_onnx(reference_dir, door, tmp_path):
    weights = reference_dir / 'data/scrfd/weights'
    states = []
    for number, file in enumerate(('scrfd_500m_bnkps_folded.pth', 'scrfd_500m_bnkps.onnx')):
        target = tmp_path / f'{number}.pth'
        door(
            'tools/weights/convert.py',
            weights / file,
            target,
            '--config',
            config_file('scrfd_500m_bnkps'),
        )
        states.append(load_checkpoint_file(target)['state_dict'])
    assert states[0].keys() == states[1].keys()
    for key in states[0]:
        torch.testing.assert_close(states[0][key], states[1][key], rtol=1e-5, atol=1e-6)


def insightface_state(name: str) -> dict[str, torch.Tensor]:
    """Return random weights of a model under the reference's names."""
    levels = {'0': '(8, 8)', '1': '(16, 16)', '2': '(32, 32)'}
    parts = {
        'towers': 'cls_stride_convs',
        'cls_convs': 'stride_cls',
        'reg_convs': 'stride_reg',
        'kps_convs': 'stride_kps',
    }
    shared = 'kps' not in name
    state = {}
    for key, value in build_model(config_file(name)).state_dict().items():
        words = key.split('.')
        if words[:2] == ['bbox_head', 'module']:
            words.pop(1)
            if words[1] in parts:
                words[1] = parts[words[1]]
                words[2] = words[2] if shared else levels[words[2]]
        state['.'.join(words)] = value
    state['bbox_head.integral.project'] = torch.arange(9.0)
    return state


@pytest.mark.parametrize('name', ['scrfd_500m', 'scrfd_500m_bnkps'])
def test_convert__finds_the_model_of_a_checkpoint(name, door, run_tool, tmp_path):
    torch.save(dict(state_dict=insightface_state(name)), tmp_path / 'in.pth')
    run = run_tool if name == 'scrfd_500m' else door  # once as users call it
    done = run('tools/weights/convert.py', tmp_path / 'in.pth', tmp_path / 'out.pth')
    assert f'fits {name}\n' in done.stdout
    assert 'skipped bbox_head.integral.project' in done.stdout
    build_model(config_file(name)).load_state_dict(
        load_checkpoint_file(tmp_path / 'out.pth')['state_dict']
    )


def test_convert__partial_file_is_refused_with_its_missing_keys(run_tool, tmp_path):
    state = insightface_state('scrfd_500m_bnkps')
    del state['neck.fpn_convs.1.conv.weight']
    torch.save(dict(state_dict=state), tmp_path / 'in.pth')
    done = run_tool('tools/weights/convert.py', tmp_path / 'in.pth', tmp_path / 'o.pth', ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith('error: ')
    assert 'neck.fpn_convs.1.conv.weight' in done.stderr
    assert 'scrfd_500m_bnkps' in done.stderr
    assert not (tmp_path / 'o.pth').exists()


def test_convert__file_that_is_no_model_is_refused(door, tmp_path):
    (tmp_path / 'in.onnx').write_bytes(b'no model at all')
    done = door('tools/weights/convert.py', tmp_path / 'in.onnx', tmp_path / 'o.pth', ok=False)
    assert done.returncode == 2
    assert 'is not an ONNX file' in done.stderr


def test_from_onnx__other_layers_are_listed():
    model = build_model(config_file('scrfd_500m_bnkps'))
    network = OnnxNetwork([ConvWeights(np.zeros((7, 3, 3, 3), np.float32), None)], [])
    with pytest.raises(ValueError, match=r'1 convolutions, the model 60.*found \(7, 3, 3, 3\)'):
        from_onnx(network, model)


@pytest.fixture(scope='module')
def group_norm_file(tmp_path_factory):
    """Export a model with group norms whose weights all differ."""
    config = config_file('scrfd_500m')
    torch.manual_seed(0)
    model = build_model(config).eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    for scale in model.bbox_head.module.scales:
        nn.init.uniform_(scale.scale, 0.5, 1.5)
    path = tmp_path_factory.mktemp('group_norm') / 'a.onnx'
    export_onnx(load_config(str(config)), model, path, ExportOptions('raw', dynamic=True))
    return path, model


def test_onnx__group_norm_model_converts_back_to_equal_maps(group_norm_file, tmp_path):
    path, model = group_norm_file
    assert sum(isinstance(module, nn.GroupNorm) for module in model.modules()) == 4
    converted = convert(path, [config_file(name) for name in ('scrfd_500m_bnkps', 'scrfd_500m')])
    assert converted.config.stem == 'scrfd_500m'
    again = build_model(converted.config).eval()
    again.load_state_dict(converted.state_dict)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        before, after = (each(image, mode='tensor') for each in (model, again))
    for left, right in zip(before, after, strict=True):
        for one, other in zip(left, right, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_from_onnx__other_group_norms_are_refused(group_norm_file):
    path, model = group_norm_file
    network = read_onnx(path)
    with pytest.raises(ValueError, match=r'11 group norms .*, the model 12 '):
        from_onnx(network._replace(group_norms=network.group_norms[1:]), model)
    changed = [norm._replace(epsilon=1e-3) for norm in network.group_norms]
    with pytest.raises(ValueError, match=r'eps 0\.001 in the file, 1e-05 in the model'):
        from_onnx(network._replace(group_norms=changed), model)


def test_read_onnx__instance_norms_are_refused(tmp_path):
    ones = onnx.numpy_helper.from_array(np.ones(3, np.float32), 'ones')
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node('InstanceNormalization', ['x', 'ones', 'ones'], ['y'], 'norm_7')],
        'net',
        [value('x', onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [value('y', onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [ones],
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / 'in.onnx')
    with pytest.raises(ValueError, match="instance norm 'norm_7' is not part of a group norm"):
        read_onnx(tmp_path / 'in.onnx')


def test_convert__missing_onnx_package_is_one_line(run_tool, tmp_path):
    (tmp_path / 'onnx.py').write_text(
        'raise ModuleNotFoundError("No module named onnx", name="onnx")\n'
    )
    (tmp_path / 'in.onnx').write_bytes(b'anything')
    done = run_tool(
        'tools/weights/convert.py',
        tmp_path / 'in.onnx',
        tmp_path / 'o.pth',
        ok=False,
        PYTHONPATH=f'{tmp_path}:{REPO}',
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        'error: this needs the package onnx: pip install'
    )
