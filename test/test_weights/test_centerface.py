# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterFace weights of all projects give the same outputs in mmface, and return to MindSpore."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from helpers import CONFIGS, assert_same_tensors, config_file, named_as
from mmface.utils.checkpoint import load_checkpoint_file
from mmface.weights.centerface import (
    from_onnx,
    guess_centerface_variant,
    layers_of,
    rename,
    to_mindspore,
    unit_variances,
)
from mmface.weights.convert import build_model, convert
from mmface.weights.mindspore_ckpt import read_mindspore_ckpt, write_mindspore_ckpt
from mmface.weights.mobilenet_v2 import Layout
from mmface.weights.onnx_convs import ConvWeights, OnnxNetwork, read_onnx

TOOL = 'tools/weights/convert.py'
VARIANTS = {
    'centerface': (1.0, 64, True),
    'centerface_starclouds': (1.0, 24, False),
    'centerface_mindspore': (1.0, 64, False),
    'centerface_small': (0.5, 24, False),
}
# A sample of every kind of layer: convolutions, then norms, by mmface's names.
NAMES = {
    Layout.CHENJUN2HAO: {
        'base.feature_1.0.0': 'backbone.stem.conv',
        'base.feature_1.1.conv.1': 'backbone.stages.0.0.linear_conv.conv',
        'base.feature_1.3.conv.1.1': 'backbone.stages.1.1.depthwise_conv.bn',
        'base.feature_2.0.conv.0.0': 'backbone.stages.2.0.expand_conv.conv',
        'base.feature_4.4.conv.3': 'backbone.stages.4.0.linear_conv.bn',
        'base.feature_6.3.conv.2': 'backbone.stages.6.0.linear_conv.conv',
        'dla_up.conv.0': 'neck.top.conv',
        'dla_up.up_0.up.0': 'neck.ups.0.deconv',
        'dla_up.up_2.conv.1': 'neck.laterals.2.bn',
        'dla_up.conv_last.0': 'neck.last.conv',
        'hm.0': 'bbox_head.module.heatmap',
        'wh': 'bbox_head.module.size',
        'hm_offset': 'bbox_head.module.offset',
        'landmarks': 'bbox_head.module.keypoints',
    },
    Layout.MINDSPORE: {
        'base.need_fp1.0.features.0': 'backbone.stem.conv',
        'base.need_fp1.1.conv.1': 'backbone.stages.0.0.linear_conv.conv',
        'base.need_fp3.4.conv.1.features.1': 'backbone.stages.4.0.depthwise_conv.bn',
        'dla_up.up1.up.0': 'neck.ups.0.deconv',
        'dla_up.up3.conv.1': 'neck.laterals.2.bn',
        'hm_head.0': 'bbox_head.module.heatmap',
        'kps_head': 'bbox_head.module.keypoints',
    },
    Layout.TORCHVISION: {
        'features.0.0': 'backbone.stem.conv',
        'features.1.conv.2': 'backbone.stages.0.0.linear_conv.bn',
        'features.17.conv.1.0': 'backbone.stages.6.0.depthwise_conv.conv',
    },
    Layout.MINDSPORE_IMAGENET: {
        'features.0.features.0': 'backbone.stem.conv',
        'features.17.conv.1.features.1': 'backbone.stages.6.0.depthwise_conv.bn',
    },
}


def random_model(name: str) -> nn.Module:
    """Build the model of a config with weights and norms that all differ."""
    torch.manual_seed(len(name))
    model = build_model(config_file(f'{name}')).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    nn.init.normal_(model.bbox_head.module.heatmap.weight)
    return model


def execution_order(model: nn.Module) -> list[tuple[str, str | None]]:
    """List the layers of a model in execution order: convolution and the norm after it."""
    order: list[list] = []

    def record(name, module):
        if isinstance(module, nn.BatchNorm2d):
            order[-1][1] = name
        else:
            order.append([name, None])

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            module.register_forward_hook(lambda m, *_, name=name: record(name, m))
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64), mode='tensor')
    return [(conv, norm) for conv, norm in order]


@pytest.mark.parametrize('layout', NAMES, ids=lambda layout: layout.name)
def test_layers_of__names(layout):
    theirs, ours = layers_of(layout), layers_of(Layout.MMFACE)
    table = {left.conv: right.conv for left, right in zip(theirs, ours, strict=False)}
    table |= {left.norm: right.norm for left, right in zip(theirs, ours, strict=False)}
    assert {name: table[name] for name in NAMES[layout]} == NAMES[layout]
    assert len(theirs) == len(set(theirs)) == (63 if len(NAMES[layout]) > 5 else 51)


@pytest.mark.parametrize('name', VARIANTS)
def test_layers_of__mmface_names_are_those_of_the_models_in_order(name):
    assert execution_order(build_model(config_file(f'{name}'))) == layers_of(Layout.MMFACE)


@pytest.mark.reference
def test_layers_of__equal_the_list_of_layers(reference_dir):
    listed = json.loads((reference_dir / 'data/centerface/layers.json').read_text())['layers']
    for layout, key in ((Layout.CHENJUN2HAO, 'torch'), (Layout.MINDSPORE, 'mindspore')):
        expected = [(layer[f'{key}_conv'], layer[f'{key}_bn']) for layer in listed]
        assert [tuple(layer) for layer in layers_of(layout)] == expected


@pytest.mark.reference
def test_chenjun2hao__file_with_the_listed_names(reference_dir, tmp_path):
    listed = json.loads((reference_dir / 'data/centerface/layers.json').read_text())['layers']
    model = random_model('centerface')
    own = model.state_dict()
    state = {}
    # The names are matched by execution order, not by the converter's own tables.
    for layer, (conv, norm) in zip(listed, execution_order(model), strict=True):
        pairs = ((layer['torch_conv'], conv), (layer['torch_bn'], norm))
        for theirs, ours in (pair for pair in pairs if pair[1] is not None):
            for key in own:
                if key.rpartition('.')[0] == ours:
                    state[f'module.{theirs}.{key.rpartition(".")[2]}'] = own[key]
    assert len(state) == 362
    torch.save(dict(epoch=140, state_dict=state, optimizer=dict(lr=1e-4)), tmp_path / 'in.pth')
    found = convert(tmp_path / 'in.pth', sorted(CONFIGS.glob('centerface/*.py')))
    assert found.config.stem == 'centerface'
    assert found.source.startswith('chenjun2hao checkpoint')
    assert_same_tensors(found.state_dict, own)


@pytest.mark.reference
def test_star_clouds__maps_equal_onnxruntime_and_golden_ones(reference_dir, door, tmp_path):
    folder = reference_dir / 'data/centerface'
    source = folder / 'weights/centerface_dequant_fp32.onnx'
    done = door(TOOL, source, tmp_path / 'out.pth')
    assert 'fits centerface_starclouds\n' in done.stdout
    assert 'need raw RGB 0-255 images and coder convention star_clouds' in done.stdout
    model = build_model(config_file('centerface_starclouds')).eval()
    model.load_state_dict(load_checkpoint_file(tmp_path / 'out.pth')['state_dict'])
    golden = np.load(folder / 'golden/golden_000388_crop_320x224.npz')
    image = golden['input_rgb_u8'].astype(np.float32)[None]
    with torch.no_grad():
        heat, *rest = model(torch.from_numpy(image), mode='tensor')
    session = onnxruntime.InferenceSession(str(source), providers=['CPUExecutionProvider'])
    theirs = session.run(['537', '538', '539', '540'], {'input.1': image})
    names = ('hm', 'scale', 'offset', 'landmarks')
    for ours, other, name in zip((heat.sigmoid(), *rest), theirs, names, strict=True):
        np.testing.assert_allclose(ours.numpy(), other, atol=1e-4, rtol=0)
        np.testing.assert_allclose(ours.numpy().ravel(), golden[name].ravel(), atol=1e-4, rtol=0)


@pytest.mark.parametrize('name', VARIANTS)
def test_round_trip__torch_to_mindspore_and_back_is_identical(name, tmp_path):
    expected = random_model(name).state_dict()
    torch.save(dict(state_dict=expected), tmp_path / 'in.pth')
    there = convert(tmp_path / 'in.pth', [config_file(f'{name}')])
    write_mindspore_ckpt(tmp_path / 'there.ckpt', to_mindspore(there.state_dict))
    stored = read_mindspore_ckpt(tmp_path / 'there.ckpt')
    assert len(stored) == 303  # 362 without the 59 counters
    assert {'base.need_fp1.0.features.1.moving_variance', 'hm_head.0.bias'} <= stored.keys()
    renamed = rename({key: torch.from_numpy(value) for key, value in stored.items()})
    assert renamed is not None
    counters = {k: v for k, v in expected.items() if k.endswith('num_batches_tracked')}
    assert_same_tensors({**renamed[1], **counters}, expected)


def test_mindspore__training_checkpoint(door, tmp_path):
    model = random_model('centerface_mindspore')
    state = {}
    for key, value in named_as(Layout.MINDSPORE, model.state_dict()).items():
        # Early versions have the channels of a depthwise convolution in dimension 1.
        early = value.ndim == 4 and value.shape[1] == 1 and '.conv.' in key
        value = value.transpose(0, 1) if early else value
        state[f'centerface_network.{key}'] = value.numpy()
        state[f'moment1.centerface_network.{key}'] = value.numpy() * 0
    assert state['centerface_network.base.need_fp1.1.conv.0.features.0.weight'].shape[0] == 1
    state |= dict(global_step=np.array(9, np.int32), learning_rate=np.ones(5, np.float32))
    write_mindspore_ckpt(tmp_path / '0-1_9.ckpt', state)
    configs = [config_file('centerface'), config_file('centerface_mindspore')]
    found = convert(tmp_path / '0-1_9.ckpt', configs)
    assert found.config.stem == 'centerface_mindspore'
    assert_same_tensors(found.state_dict, model.state_dict())

    done = door(TOOL, tmp_path / '0-1_9.ckpt', tmp_path / 'back.ckpt')
    assert 'dense neck 64 wide and 5 keypoints; fits centerface_mindspore\n' in done.stdout
    assert 'skipped 301 more' in done.stdout
    back = read_mindspore_ckpt(tmp_path / 'back.ckpt')
    assert len(back) == 303
    for key, value in back.items():
        theirs = state[f'centerface_network.{key}']
        np.testing.assert_array_equal(value.ravel(), theirs.ravel(), key)


def test_mobilenet_v2__from_torchvision_and_to_mindspore(tmp_path):
    backbone = random_model('centerface').backbone
    own = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    state = named_as(Layout.TORCHVISION, own)
    state |= {'features.18.0.weight': torch.zeros(1280, 320, 1, 1)}
    state |= {'features.18.1.running_mean': torch.zeros(1280), 'classifier.1.bias': torch.ones(9)}
    torch.save(state, tmp_path / 'in.pth')
    configs = [config_file('centerface_small'), config_file('centerface')]
    found = convert(tmp_path / 'in.pth', configs)
    assert found.config.stem == 'centerface'
    assert found.dropped == list(state)[-3:]
    assert_same_tensors(found.state_dict, own)
    write_mindspore_ckpt(tmp_path / 'in.ckpt', to_mindspore(found.state_dict))
    # The name that MindSpore's CenterFace builds when it loads ImageNet weights.
    key = 'network.backbone.features.2.conv.1.features.1.moving_mean'
    expected = own['backbone.stages.1.0.depthwise_conv.bn.running_mean']
    np.testing.assert_array_equal(read_mindspore_ckpt(tmp_path / 'in.ckpt')[key], expected)
    assert_same_tensors(convert(tmp_path / 'in.ckpt', configs).state_dict, own)

    torch.save(dict(state_dict=found.state_dict), tmp_path / 'out.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'out.pth'), prefix='backbone.')
    fresh = MODELS.build(dict(type='MobileNetV2Taps', init_cfg=init_cfg))
    fresh.init_weights()
    assert_same_tensors(fresh.state_dict(), backbone.state_dict())


@pytest.mark.parametrize('keypoints', [0, 5])
def test_from_onnx__heads_in_any_order_and_without_keypoints(keypoints):
    model = random_model('centerface_small')
    if not keypoints:
        del model.bbox_head.module.keypoints
        model.bbox_head.module.num_keypoints = 0
    state = model.state_dict()
    folded: dict[str, ConvWeights] = {}
    for conv, norm in layers_of(Layout.MMFACE):
        if f'{conv}.weight' not in state:
            continue
        weight = state[f'{conv}.weight']
        bias = state.get(f'{conv}.bias')
        if norm is not None:
            factor = state[f'{norm}.weight'] / torch.sqrt(
                state[f'{norm}.running_var'] + model.get_submodule(norm).eps
            )
            # A dense transposed convolution has its outputs in dimension 1.
            axis = (1, -1, 1, 1) if conv.endswith('deconv') else (-1, 1, 1, 1)
            weight = weight * factor.reshape(axis)
            bias = state[f'{norm}.bias'] - state[f'{norm}.running_mean'] * factor
        folded[conv] = ConvWeights(weight.numpy(), bias.numpy())
    deconvs = [value for key, value in folded.items() if key.endswith('deconv')]
    convs = [value for key, value in folded.items() if not key.endswith('deconv')]
    heads = convs[56:]
    shuffled = [*heads[3:], *heads[1:3], heads[0]]
    exported = from_onnx(OnnxNetwork([*convs[:56], *shuffled], [], deconvs))
    variant = guess_centerface_variant(exported)
    assert variant is not None
    assert variant[1:] == (0.5, 24, False, keypoints)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(image, mode='tensor')
        counters = {k: v for k, v in state.items() if k.endswith('num_batches_tracked')}
        model.load_state_dict({**unit_variances(exported, model), **counters})
        after = model(image, mode='tensor')
    assert len(before) == (4 if keypoints else 3)
    for left, right in zip(before, after, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', VARIANTS)
@pytest.mark.parametrize('layout', [Layout.MMFACE, Layout.CHENJUN2HAO, Layout.MINDSPORE])
def test_guess_centerface_variant(name, layout):
    state = build_model(config_file(f'{name}')).state_dict()
    variant = guess_centerface_variant(named_as(layout, state))
    assert variant is not None
    assert variant == (layout, *VARIANTS[name], 5)
    assert variant.config == name
    assert f'config {name} builds' in variant.hint
    assert ('convert.py' in variant.hint) == (layout is not Layout.MMFACE)


def test_guess_centerface_variant__parts_and_others():
    state = build_model(config_file('centerface')).state_dict()
    backbone = {key: value for key, value in state.items() if key.startswith('backbone.')}
    assert str(guess_centerface_variant(backbone)) == 'MobileNetV2 of width 1'
    no_keypoints = {key: value for key, value in state.items() if '.keypoints.' not in key}
    variant = guess_centerface_variant(no_keypoints)
    assert variant is not None
    assert variant.config is None
    assert 'no keypoints' in variant.hint
    scrfd = build_model(config_file('scrfd_500m_bnkps')).state_dict()
    assert guess_centerface_variant(scrfd) is None


def test_convert__variant_without_a_config_is_named(tmp_path):
    state = named_as(Layout.CHENJUN2HAO, random_model('centerface').state_dict())
    torch.save({k: v for k, v in state.items() if 'landmarks' not in k}, tmp_path / 'in.pth')
    with pytest.raises(ValueError, match=r'neck 64 wide and no keypoints.*2 missing.*keypoints'):
        convert(tmp_path / 'in.pth', [config_file('centerface')])


def test_convert__weights_of_another_convention_are_refused(tmp_path):
    state = named_as(Layout.MINDSPORE, random_model('centerface_mindspore').state_dict())
    write_mindspore_ckpt(tmp_path / 'in.ckpt', {k: v.numpy() for k, v in state.items()})
    config = tmp_path / 'other.py'
    config.write_text(
        f"_base_ = '{config_file('centerface_mindspore')}'\n"
        "model = dict(bbox_head=dict(coder=dict(convention='centernet')))\n"
    )
    with pytest.raises(ValueError, match=r"for the coder convention 'mindspore'.* 'centernet'"):
        convert(tmp_path / 'in.ckpt', [config])
    config.write_text(
        f"_base_ = '{config_file('centerface_mindspore')}'\n"
        "model = dict(backbone=dict(act_cfg=dict(type='ReLU')))\n"
    )
    with pytest.raises(ValueError, match='these weights has ReLU6, that of the config ReLU'):
        convert(tmp_path / 'in.ckpt', [config])


def test_convert__unknown_layout_lists_what_is_supported(door, tmp_path):
    torch.save({'layer1.weight': torch.zeros(3)}, tmp_path / 'in.pth')
    done = door(TOOL, tmp_path / 'in.pth', tmp_path / 'out.pth', ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith('error: ')
    assert 'layer1.weight' in done.stderr
    for name in ('insightface', 'chenjun2hao', 'Star-Clouds', 'MindSpore', 'torchvision'):
        assert name in done.stderr
    assert not (tmp_path / 'out.pth').exists()


def test_to_mindspore__other_models_are_refused():
    state = build_model(config_file('scrfd_500m_bnkps')).state_dict()
    with pytest.raises(ValueError, match=r'only for CenterFace and its MobileNetV2'):
        to_mindspore(state)


def test_read_onnx__norm_that_is_not_folded_is_refused(tmp_path):
    onnx = pytest.importorskip('onnx')
    ones = onnx.numpy_helper.from_array(np.ones(3, np.float32), 'ones')
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node('BatchNormalization', ['x', *['ones'] * 4], ['y'], 'norm_7')],
        'net',
        [value('x', onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [value('y', onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [ones],
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / 'in.onnx')
    with pytest.raises(ValueError, match="'norm_7' is not folded"):
        read_onnx(tmp_path / 'in.onnx')
