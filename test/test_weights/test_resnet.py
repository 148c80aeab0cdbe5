# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""ImageNet weights under other projects' names give the same backbone.

None of the original files was available. The files here are made with the documented names; for
R-50.pkl these are listed in detectron2 issue 1688.
"""

from __future__ import annotations

import pickle

import pytest
import torch
from mmdet.registry import MODELS

from helpers import assert_same_tensors
from mmface.weights.centernet2 import to_detectron2
from mmface.weights.convert import convert
from mmface.weights.loading import variant_hint
from mmface.weights.resnet import rename, with_offsets

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# Names in the files of detectron2, in those of Detectron, and in Detectron's ResNeXt-101.
SPELLINGS = {
    'written out': ('bn_gamma', 'bn_beta', 'bn_running_mean', 'bn_running_var'),
    'short': ('bn_s', 'bn_b', 'bn_rm', 'bn_riv'),
}
BRANCHES = {
    'branch1': ('downsample.0', 'downsample.1', 'shortcut'),
    'branch2a': ('conv1', 'bn1', 'conv1'),
    'branch2b': ('conv2', 'bn2', 'conv2'),
    'branch2c': ('conv3', 'bn3', 'conv3'),
}
STATISTICS = ('weight', 'bias', 'running_mean', 'running_var')


def caffe2_names(depth: int, spelling: str) -> dict[str, str]:
    """Map Caffe2's names of the tensors of a ResNet to mmdet's."""
    parts = dict(zip(STATISTICS, SPELLINGS[spelling], strict=True))
    names = {'conv1_w': 'conv1.weight'}
    names |= {f'res_conv1_{parts[part]}': f'bn1.{part}' for part in STATISTICS}
    for stage, blocks in enumerate(BLOCKS[depth]):
        for block in range(blocks):
            for branch in list(BRANCHES)[block > 0 :]:
                theirs, ours = f'res{stage + 2}_{block}_{branch}', f'layer{stage + 1}.{block}'
                conv, norm, _ = BRANCHES[branch]
                names[f'{theirs}_w'] = f'{ours}.{conv}.weight'
                names |= {f'{theirs}_{parts[p]}': f'{ours}.{norm}.{p}' for p in STATISTICS}
    return names


def detectron2_names(depth: int) -> dict[str, str]:
    """Map detectron2's names of the tensors of a ResNet to mmdet's."""
    names = {'stem.conv1.weight': 'conv1.weight'}
    names |= {f'stem.conv1.norm.{part}': f'bn1.{part}' for part in STATISTICS}
    for stage, blocks in enumerate(BLOCKS[depth]):
        for block in range(blocks):
            for conv, norm, name in list(BRANCHES.values())[block > 0 :]:
                theirs, ours = f'res{stage + 2}.{block}.{name}', f'layer{stage + 1}.{block}'
                names[f'{theirs}.weight'] = f'{ours}.{conv}.weight'
                names |= {f'{theirs}.norm.{p}': f'{ours}.{norm}.{p}' for p in STATISTICS}
    return names


def counted(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove the counters of the norms, which other projects do not have."""
    return {key: v for key, v in state.items() if not key.endswith('num_batches_tracked')}


@pytest.fixture
def pickled(tmp_path):
    """Return a function that writes tensors in detectron2's format."""

    def write(state, name='R-50.pkl', **layout):
        path = tmp_path / name
        arrays = {key: value.numpy() for key, value in state.items()}
        content = dict(model=arrays, **layout) if layout else arrays
        path.write_bytes(pickle.dumps(content, 2))
        return path

    return write


@pytest.mark.parametrize('spelling', SPELLINGS)
@pytest.mark.parametrize('depth', BLOCKS)
def test_caffe2__every_tensor_is_in_its_place(small_config, random_model, pickled, depth, spelling):
    config = small_config(backbone=dict(depth=depth))
    own = random_model(config).backbone.state_dict()
    names = caffe2_names(depth, spelling)
    assert set(names.values()) == counted(own).keys()
    state = {theirs: own[ours] for theirs, ours in names.items()}
    extra = {
        'conv1_b': torch.zeros(8),
        'res2_0_branch2a_b': torch.zeros(8),
        'fc1000_w': torch.ones(10, 256),
        'fc1000_b': torch.ones(10),
        'conv1_w_momentum': torch.ones(1),
    }
    found = convert(pickled({**state, **extra}), [config])
    expected = {f'backbone.{key}': value for key, value in own.items()}
    assert_same_tensors(counted(found.state_dict), counted(expected))
    assert sorted(found.dropped) == sorted(list(extra)[:4])
    assert found.source == f'Caffe2 checkpoint of a ResNet-{depth} with a stem 8 wide'
    assert "style='caffe' on BGR images" in found.note


def test_caffe2__folded_norms_scale_and_shift_only(small_config, random_model, pickled):
    config = small_config()
    model = random_model(config)
    own = model.backbone.state_dict()
    names = caffe2_names(50, 'short')
    folded = {
        theirs: own[ours] for theirs, ours in names.items() if not theirs.endswith(('_rm', '_riv'))
    }
    found = convert(pickled(dict(blobs=folded)['blobs']), [config])
    norm = model.backbone.layer2[0].bn1
    head = 'backbone.layer2.0.bn1.'
    norm.load_state_dict(
        {key.removeprefix(head): v for key, v in found.state_dict.items() if key.startswith(head)}
    )
    x = torch.randn(2, norm.num_features, 3, 3)
    weight, bias = own['layer2.0.bn1.weight'], own['layer2.0.bn1.bias']
    expected = x * weight.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize('author', ['torchvision', 'third_party'])
def test_detectron2__every_tensor_is_in_its_place_and_goes_back(
    small_config, random_model, pickled, author
):
    config = small_config()
    own = counted(random_model(config).backbone.state_dict())
    names = detectron2_names(50)
    assert set(names.values()) == own.keys()
    state = {theirs: own[ours] for theirs, ours in names.items()}
    extra = {'stem.fc.weight': torch.ones(10, 256), 'stem.fc.bias': torch.ones(10)}
    source = pickled({**state, **extra}, __author__=author, matching_heuristics=True)
    found = convert(source, [config])
    assert_same_tensors(
        counted(found.state_dict), {f'backbone.{key}': value for key, value in own.items()}
    )
    assert found.dropped == list(extra)
    assert "torchvision with backbone style='pytorch'" in found.note
    assert_same_tensors(to_detectron2(found.state_dict), state)


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_torchvision_and_mmdetection__give_a_backbone_to_start_from(
    small_config, random_model, tmp_path, prefix
):
    config = small_config()
    backbone = random_model(config).backbone
    own = backbone.state_dict()
    state = {f'{prefix}{key}': value for key, value in own.items()}
    head = 'head.fc' if prefix else 'fc'
    state |= {f'{head}.weight': torch.ones(9, 256), f'{head}.bias': torch.ones(9)}
    torch.save(dict(state_dict=state) if prefix else state, tmp_path / 'in.pth')
    found = convert(tmp_path / 'in.pth', [config])
    assert found.dropped == [f'{head}.weight', f'{head}.bias']
    assert found.note.startswith("for a config's model.backbone.init_cfg: dict(type='Pretrained'")
    torch.save(dict(state_dict=found.state_dict), tmp_path / 'out.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'out.pth'), prefix='backbone.')
    fresh = MODELS.build(
        dict(
            type='ResNet', depth=50, style='caffe', base_channels=8, stem_channels=8,
            init_cfg=init_cfg,
        )
    )  # fmt: skip
    assert not torch.equal(fresh.conv1.weight, own['conv1.weight'])
    fresh.init_weights()
    assert_same_tensors(fresh.state_dict(), own)


def test_resnext_into_deformable_convolutions(small_config, random_model, pickled):
    changes = dict(
        type='ResNeXt', depth=101, groups=4, base_width=16, style='pytorch',
        dcn=dict(type='DCNv2', deform_groups=1), stage_with_dcn=(False, False, True, True),
    )  # fmt: skip
    config = small_config(backbone=changes)
    own = random_model(config).backbone.state_dict()
    names = caffe2_names(101, 'short')
    state = {theirs: own[ours] for theirs, ours in names.items()}
    state |= {'pred_w': torch.ones(9, 256), 'pred_b': torch.ones(9)}
    found = convert(pickled(state, 'X-101.pkl'), [config])
    assert found.source == 'Caffe2 checkpoint of a ResNeXt-101 with 4 groups and a stem 8 wide'
    assert 'std (57.375, 57.12, 58.395)' in found.note
    assert found.dropped == ['pred_w', 'pred_b']
    loaded = {key.removeprefix('backbone.'): v for key, v in found.state_dict.items()}
    assert loaded.keys() == own.keys()
    offsets = [key for key in own if '.conv_offset.' in key]
    assert len(offsets) == 2 * (23 + 3)
    for key, value in counted(own).items():
        expected = torch.zeros_like(value) if key in offsets else value
        assert torch.equal(loaded[key], expected), key


def test_res2net__names(small_config, random_model, pickled):
    config = small_config(backbone=dict(type='Res2NetCaffe', depth=101, scales=4, base_width=4))
    own = counted(random_model(config).backbone.state_dict())
    theirs = to_detectron2({f'backbone.{key}': value for key, value in own.items()})
    sample = {
        'stem.conv1.0.weight': 'stem.0.weight',
        'stem.conv1.4.running_var': 'stem.4.running_var',
        'stem.conv1.6.weight': 'stem.6.weight',
        'stem.bn1.bias': 'stem.7.bias',
        'res2.0.conv1.norm.weight': 'layer1.0.bn1.weight',
        'res3.0.shortcut.1.weight': 'layer2.0.downsample.1.weight',
        'res3.0.shortcut.1.norm.running_mean': 'layer2.0.downsample.2.running_mean',
        'res4.22.convs.2.weight': 'layer3.22.convs.2.weight',
        'res5.2.bns.0.bias': 'layer4.2.bns.0.bias',
    }
    for name, ours in sample.items():
        assert torch.equal(theirs[name], own[ours]), name
    found = convert(pickled(theirs, 'r2_101.pkl', __author__='third_party'), [config])
    assert_same_tensors(
        counted(found.state_dict), {f'backbone.{key}': value for key, value in own.items()}
    )
    assert found.source == 'detectron2 checkpoint of a Res2Net-101 with a stem 8 wide'


def test_dla34__the_file_of_its_authors(small_config, random_model, tmp_path):
    necks = dict(_delete_=True, type='BiFPN', in_channels=[128, 256, 512], out_channels=64)
    config = small_config(backbone=dict(_delete_=True, type='DLA34'), neck=necks)
    own = random_model(config).backbone.state_dict()
    extra = {
        'level3.project.0.weight': torch.ones(128, 64, 1, 1),
        'level4.project.1.running_var': torch.ones(256),
        'fc.weight': torch.ones(9, 512, 1, 1),
        'fc.bias': torch.ones(9),
    }
    assert {'base_layer.0.weight', 'level3.tree1.tree2.bn1.bias', 'level5.root.conv.weight'} < set(
        own
    )
    torch.save({**counted(own), **extra}, tmp_path / 'dla34.pth')
    found = convert(tmp_path / 'dla34.pth', [config])
    assert_same_tensors(
        counted(found.state_dict), {f'backbone.{k}': v for k, v in counted(own).items()}
    )
    assert sorted(found.dropped) == sorted(extra)
    assert found.source == 'ucbdrive/dla checkpoint of a DLA-34'
    assert 'RGB' in found.note


def test_rename__whole_detectors_and_strangers_are_no_backbones(small_config, random_model):
    state = random_model(small_config()).state_dict()
    assert rename(state) is None
    assert rename({'layer1.weight': torch.ones(1)}) is None


def test_with_offsets__adds_those_of_the_model_only(small_config, random_model):
    dcn = dict(dcn=dict(type='DCNv2'), stage_with_dcn=(False, False, False, True))
    model = random_model(small_config(backbone=dcn, rpn_head=dict(dcn_on_last_conv=True)))
    filled = with_offsets({'backbone.conv1.weight': torch.ones(1)}, model)
    assert len(filled) == 1 + 2 * 3
    assert 'backbone.layer4.2.conv2.conv_offset.bias' in filled
    given = {'backbone.layer4.2.conv2.conv_offset.bias': torch.ones(27)}
    assert with_offsets(given, model)['backbone.layer4.2.conv2.conv_offset.bias'].all()


def test_convert__backbone_of_another_depth_is_named(small_config, random_model, pickled):
    deep = small_config('deep', backbone=dict(depth=101))
    own = random_model(deep).backbone.state_dict()
    source = pickled({t: own[o] for t, o in caffe2_names(101, 'short').items()}, 'R-101.pkl')
    with pytest.raises(ValueError, match=r'a ResNet-101 .*none of 1 config\(s\) has such'):
        convert(source, [small_config()])


def test_convert__missing_tensor_is_named(small_config, random_model, pickled):
    config = small_config()
    own = random_model(config).backbone.state_dict()
    state = {t: own[o] for t, o in caffe2_names(50, 'short').items()}
    del state['res4_3_branch2b_w']
    with pytest.raises(ValueError, match=r'1 missing \(layer3\.3\.conv2\.weight\)'):
        convert(pickled(state), [config])


def test_variant_hint__a_backbone_alone(small_config, random_model):
    own = random_model(small_config()).backbone.state_dict()
    hint = variant_hint({t: own[o] for t, o in caffe2_names(50, 'written out').items()})
    assert hint is not None
    assert hint.startswith('it looks like a ResNet-50 with a stem 8 wide alone')
    assert hint.endswith("converts it for a config's model.backbone.init_cfg")
