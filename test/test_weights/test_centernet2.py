# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterNet2 weights of its authors give the same outputs in mmface, and can be converted back.

Files of the cascade and of CenterNet2-F were available. For deformable convolutions, Res2Net, DLA
and BiFPN, the names are those of the reference's code.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from torch import nn

from helpers import CONFIGS, assert_same_tensors, load_config
from mmface.utils.checkpoint import load_checkpoint_file
from mmface.weights.centernet2 import (
    VARIANT_CONFIGS,
    guess_centernet2_variant,
    rename,
    to_detectron2,
)
from mmface.weights.centernet2_names import Structure, layer_names
from mmface.weights.convert import build_model, convert
from mmface.weights.detectron2_pickle import read_detectron2_pickle
from mmface.weights.loading import variant_hint

TOOL = 'tools/weights/convert.py'
ARCHS = {'cascade': 3, 'faster': 1}
HEAD = 'proposal_generator.centernet_head'
# The reference's names of a sample of every kind of tensor, by variant.
NAMES = {
    'centernet2_r50_1x': {
        'backbone.bottom_up.stem.conv1.norm.running_var': 'backbone.bn1.running_var',
        'backbone.bottom_up.res2.0.shortcut.norm.bias': 'backbone.layer1.0.downsample.1.bias',
        'backbone.bottom_up.res5.2.conv3.weight': 'backbone.layer4.2.conv3.weight',
        'backbone.fpn_lateral3.bias': 'neck.lateral_convs.0.conv.bias',
        'backbone.fpn_output5.weight': 'neck.fpn_convs.2.conv.weight',
        'backbone.top_block.p7.weight': 'neck.fpn_convs.4.conv.weight',
        f'{HEAD}.bbox_tower.0.weight': 'rpn_head.reg_convs.0.conv.weight',
        f'{HEAD}.bbox_tower.10.bias': 'rpn_head.reg_convs.3.gn.bias',
        f'{HEAD}.bbox_pred.bias': 'rpn_head.conv_reg.bias',
        f'{HEAD}.agn_hm.weight': 'rpn_head.conv_cls.weight',
        'roi_heads.box_head.0.fc1.weight': 'roi_head.bbox_head.0.shared_fcs.0.weight',
        'roi_heads.box_head.2.fc2.bias': 'roi_head.bbox_head.2.shared_fcs.1.bias',
        'roi_heads.box_predictor.1.cls_score.bias': 'roi_head.bbox_head.1.fc_cls.bias',
        'roi_heads.box_predictor.2.bbox_pred.weight': 'roi_head.bbox_head.2.fc_reg.weight',
    },
    'centernet2_f_r50_1x': {
        'roi_heads.box_head.fc2.weight': 'roi_head.bbox_head.shared_fcs.1.weight',
        'roi_heads.box_predictor.cls_score.weight': 'roi_head.bbox_head.fc_cls.weight',
        'roi_heads.box_predictor.bbox_pred.bias': 'roi_head.bbox_head.fc_reg.bias',
    },
    'centernet_fpn_r50_1x': {
        f'{HEAD}.bbox_tower.9.weight': 'bbox_head.reg_convs.3.conv.weight',
        f'{HEAD}.cls_tower.0.weight': 'bbox_head.cls_convs.0.conv.weight',
        f'{HEAD}.cls_tower.10.weight': 'bbox_head.cls_convs.3.gn.weight',
        f'{HEAD}.cls_logits.weight': 'bbox_head.cls_logits.weight',
        f'{HEAD}.bbox_pred.weight': 'bbox_head.conv_reg.weight',
    },
    'centernet2_x101_dcn_2x': {
        'backbone.bottom_up.res4.0.conv2.weight': 'backbone.layer3.0.conv2.weight',
        'backbone.bottom_up.res4.0.conv2.norm.bias': 'backbone.layer3.0.bn2.bias',
        'backbone.bottom_up.res5.2.conv2_offset.bias': 'backbone.layer4.2.conv2.conv_offset.bias',
        f'{HEAD}.bbox_tower.6.weight': 'rpn_head.reg_convs.2.conv.weight',
        f'{HEAD}.bbox_tower.9.offset.weight': 'rpn_head.reg_convs.3.conv.conv_offset.weight',
        f'{HEAD}.bbox_tower.9.conv.bias': 'rpn_head.reg_convs.3.conv.bias',
        f'{HEAD}.bbox_tower.10.weight': 'rpn_head.reg_convs.3.gn.weight',
    },
    'centernet2_r2_101_dcn_896_4x': {
        'backbone.bottom_up.stem.conv1.3.weight': 'backbone.stem.3.weight',
        'backbone.bottom_up.stem.bn1.running_mean': 'backbone.stem.7.running_mean',
        'backbone.bottom_up.res3.0.shortcut.1.weight': 'backbone.layer2.0.downsample.1.weight',
        'backbone.bottom_up.res3.0.shortcut.1.norm.bias': 'backbone.layer2.0.downsample.2.bias',
        'backbone.bottom_up.res4.22.convs.1.weight': 'backbone.layer3.22.convs.1.weight',
        'backbone.bottom_up.res4.22.bns.1.bias': 'backbone.layer3.22.bns.1.bias',
        'backbone.bottom_up.res5.0.conv2_offsets.2.weight': (
            'backbone.layer4.0.convs.2.conv_offset.weight'
        ),
    },
    'centernet2_r2_101_dcn_bifpn_1280_4x': {
        'backbone.resample.3.conv.conv.weight': 'neck.extra.0.conv.weight',
        'backbone.resample.3.conv.bn.bias': 'neck.extra.0.gn.bias',
        'backbone.cell.6.fnode.7.combine.edge_weights': 'neck.cells.6.nodes.7.weights',
        'backbone.cell.0.fnode.4.combine.resample.1.conv.conv.weight': (
            'neck.cells.0.laterals.1_4.conv.weight'
        ),
        'backbone.cell.0.fnode.4.combine.resample.1.conv.bn.weight': (
            'neck.cells.0.laterals.1_4.gn.weight'
        ),
        'backbone.cell.2.fnode.0.after_combine.conv.conv.weight': (
            'neck.cells.2.nodes.0.out.conv.weight'
        ),
        'backbone.cell.2.fnode.0.after_combine.conv.bn.bias': 'neck.cells.2.nodes.0.out.gn.bias',
    },
    'centernet2_dla_bifpn_p3_4x': {
        'backbone.bottom_up.backbone.base_layer.0.weight': 'backbone.base_layer.0.weight',
        'backbone.bottom_up.backbone.level3.tree2.root.bn.num_batches_tracked': (
            'backbone.level3.tree2.root.bn.num_batches_tracked'
        ),
        'backbone.repeated_bifpn.0.lateral_1_f1.bias': 'neck.cells.0.laterals.1_1.conv.bias',
        'backbone.repeated_bifpn.0.lateral_2_f1.norm.weight': 'neck.cells.0.laterals.2_1.gn.weight',
        'backbone.repeated_bifpn.3.weights_f1_1_3_4': 'neck.cells.3.nodes.2.weights',
        'backbone.repeated_bifpn.3.outputs_f2_2_5.weight': 'neck.cells.3.nodes.3.out.conv.weight',
        'backbone.repeated_bifpn.3.outputs_f2_2_5.norm.bias': 'neck.cells.3.nodes.3.out.gn.bias',
    },
    'centernet2_dla_bifpn_p5_640_16x': {
        'backbone.bottom_up.level5.root.conv.weight': 'backbone.level5.root.conv.weight',
        'backbone.bottom_up.level2.project.1.running_var': 'backbone.level2.project.1.running_var',
        'backbone.cell.0.fnode.7.combine.edge_weights': 'neck.cells.0.nodes.7.weights',
    },
}


@pytest.fixture(scope='module')
def numbered():
    """Return a function that makes a config's tensors: real shapes, each filled with one number."""
    made: dict[str, dict[str, torch.Tensor]] = {}

    def tensors(name: str, **neck: object) -> dict[str, torch.Tensor]:
        key = f'{name}{neck}'
        if key not in made:
            cfg = load_config(name)
            cfg.model.neck.update(neck)
            with torch.device('meta'):
                shapes = MODELS.build(cfg.model).state_dict()
            made[key] = {
                # It takes the memory of one number, whatever its size is.
                key: torch.tensor(float(number)).expand(value.shape)
                for number, (key, value) in enumerate(shapes.items())
            }
        return dict(made[key])

    return tensors


def arch_config(small_config, arch: str) -> Path:
    return small_config(arch, roi_head=dict(num_stages=ARCHS[arch]))


def weights(reference_dir: Path, arch: str) -> tuple[Path, dict[str, torch.Tensor]]:
    path = reference_dir / f'data/centernet2/{arch}_tiny_weights.pth'
    return path, torch.load(path, weights_only=True)['model']


@pytest.mark.reference
@pytest.mark.parametrize('arch', ARCHS)
def test_convert__every_part_equals_the_reference(reference_dir, small_config, arch):
    source, theirs = weights(reference_dir, arch)
    config = arch_config(small_config, arch)
    found = convert(source, [config])
    model = build_model(config).eval()
    model.load_state_dict(found.state_dict)
    counters = [key for key in found.state_dict if key.endswith('num_batches_tracked')]
    assert len(found.state_dict) == len(theirs) + len(counters)
    assert all(value.dtype == torch.float32 for key, value in model.named_parameters())
    assert found.source.startswith('xingyizhou/CenterNet2 checkpoint of a CenterNet2')

    golden = np.load(source.with_name(f'{arch}_tiny_head.npz'))
    mean = torch.tensor([103.53, 116.28, 123.675]).reshape(3, 1, 1)
    images = [torch.from_numpy(golden[f'in/image{i}']) - mean for i in range(2)]
    x = torch.stack([F.pad(p, (0, 896 - p.shape[2], 0, 640 - p.shape[1])) for p in images])
    with torch.no_grad():
        feats = model.extract_feat(x)
        _, heat, boxes = model.rpn_head(feats)

    def close(ours: torch.Tensor, name: str) -> None:
        np.testing.assert_allclose(ours.numpy(), golden[f'eval/{name}'], atol=1e-4, rtol=1e-4)

    for level in range(5):
        close(feats[level][:, ::8], f'fpn_p{level + 3}')
        close(heat[level], f'head_agn_l{level}')
        close(boxes[level], f'head_reg_l{level}')
    for stage, head in enumerate(model.roi_head.stages):
        name = 's{}_in{}_boxes' if arch == 'cascade' else 'prop{1}_boxes'
        bboxes = [golden[f'eval/{name.format(stage, i)}'] for i in range(2)]
        rois = bbox2roi([torch.from_numpy(b) for b in bboxes])
        with torch.no_grad():
            logits, deltas = head(model.roi_head.bbox_roi_extractor(feats, rois))
        if arch == 'cascade':
            close(logits, f's{stage}_logits')
            close(deltas, f's{stage}_deltas')
            continue
        for i, found in enumerate(logits.softmax(-1).chunk(2)):
            proposed = torch.from_numpy(golden[f'eval/prop{i}_scores'])
            close((found * proposed[:, None]).sqrt(), f'roi{i}_final_scores')


@pytest.mark.reference
@pytest.mark.parametrize('arch', ARCHS)
def test_tool__there_and_back_is_identical(reference_dir, small_config, door, tmp_path, arch):
    source, theirs = weights(reference_dir, arch)
    config = arch_config(small_config, arch)
    if arch == 'cascade':
        door(TOOL, source, tmp_path / 'own.pth', '--config', config)
        done = door(
            TOOL, tmp_path / 'own.pth', tmp_path / 'back.pth', '--config', config,
            '--to', 'detectron2',
        )  # fmt: skip
        assert f'({len(theirs)} tensors, names of detectron2)' in done.stdout
        back = torch.load(tmp_path / 'back.pth', weights_only=True)['model']
    else:
        back = to_detectron2(convert(source, [config]).state_dict)
    assert_same_tensors(back, {key: value.float() for key, value in theirs.items()})


@pytest.mark.parametrize('name', NAMES)
def test_names__there_and_back(name, numbered):
    own = numbered(name)
    # The offsets of the reference's Res2Net have no bias. mmcv's bias starts with zero.
    biases = [key for key in own if '.convs.' in key and key.endswith('conv_offset.bias')]
    assert len(biases) == (3 * (23 + 3) if 'r2_101' in name else 0)
    own |= {key: torch.zeros(27) for key in biases}
    theirs = to_detectron2(own)
    for key, ours in NAMES[name].items():
        assert torch.equal(theirs[key], own[ours]), key
    found = rename(theirs)
    assert found is not None
    counters = [key for key in own if key.endswith('num_batches_tracked')]
    expected = {key: v for key, v in own.items() if 'dla' in name or key not in counters}
    assert_same_tensors(found.state_dict, expected)
    unread = [key for key in theirs if '.level3.project.' in key or '.level4.project.' in key]
    assert found.dropped == unread
    assert len(unread) == (12 if 'dla' in name else 0)
    assert sum(theirs[key].numel() for key in unread if key.endswith('0.weight')) in (0, 40960)
    assert found.variant.origin == 'xingyizhou/CenterNet2'
    assert found.variant.config == name


def test_to_detectron2__count_of_the_reference(numbered):
    theirs = to_detectron2(numbered('centernet2_r50_1x'))
    assert len(theirs) == 330
    assert sum(value.numel() for value in theirs.values()) == 71_752_137
    assert theirs[f'{HEAD}.scales.4.scale'].shape == (1,)


@pytest.mark.parametrize('head', ['rpn_head', 'bbox_head'])
@pytest.mark.parametrize('deformable', [-1, 3])
@pytest.mark.parametrize('res2net', [False, True])
@pytest.mark.parametrize(('fcos', 'levels'), [(False, 5), (True, 5), (True, 3)])
def test_layer_names__no_name_comes_twice(head, deformable, res2net, fcos, levels):
    pairs = list(layer_names(Structure(head, deformable, res2net, fcos, levels)))
    for side in zip(*pairs, strict=True):
        assert len(set(side)) == len(pairs)


def test_fcos_bifpn__five_levels(numbered):
    own = numbered('centernet2_dla_bifpn_p5_640_16x', kind='fcos')
    theirs = to_detectron2(own)
    assert {
        'backbone.bottom_up.dla6.reduction.weight',
        'backbone.bottom_up.dla6.reduction.norm.bias',
        'backbone.bottom_up.backbone.level2.root.bn.weight',
        'backbone.repeated_bifpn.0.lateral_1_f1.bias',
        'backbone.repeated_bifpn.2.weights_f4_4_11',
        'backbone.repeated_bifpn.2.outputs_f2_2_6_9.norm.weight',
    } < theirs.keys()
    found = rename(theirs)
    assert found is not None
    assert_same_tensors(found.state_dict, own)


def test_rename__settings_are_left_out_and_strangers_reported(numbered):
    theirs = {f'module.{k}': v for k, v in to_detectron2(numbered('centernet2_r50_1x')).items()}
    settings = ['pixel_mean', 'pixel_std', 'roi_heads.box_predictor.1.freq_weight']
    theirs |= {f'module.{key}': torch.ones(3) for key in [*settings, 'roi_heads.mask.weight']}
    found = rename(theirs)
    assert found is not None
    assert found.dropped == settings
    assert 'roi_heads.mask.weight' in found.state_dict
    assert found.variant.config == 'centernet2_r50_1x'


def test_to_detectron2__what_has_no_place_there_is_refused(numbered):
    own = numbered('centernet2_r2_101_dcn_896_4x')
    with pytest.raises(ValueError, match=r'conv_offset\.bias was learned'):
        to_detectron2(own)
    own = numbered('centernet2_r50_1x')
    with pytest.raises(ValueError, match=r'1 of 384 tensors have no name .*, such as neck.extra'):
        to_detectron2({**own, 'neck.extra': torch.ones(1)})
    with pytest.raises(ValueError, match='only for CenterNet2 and its backbones'):
        to_detectron2({'backbone.stem.0.weight': torch.ones(1), 'neck.a': torch.ones(1)})


def test_tool__pkl_is_a_pickle_of_arrays(small_config, random_model, door, tmp_path):
    config = small_config()
    own = random_model(config).state_dict()
    torch.save(dict(state_dict=own), tmp_path / 'own.pth')
    args = (tmp_path / 'own.pth', tmp_path / 'X.pkl', '--config', config, '--to', 'detectron2')
    door(TOOL, *args)
    # As detectron2's DetectionCheckpointer reads it.
    content = pickle.loads((tmp_path / 'X.pkl').read_bytes(), encoding='latin1')
    assert content['__author__'] == 'mmface'
    theirs = to_detectron2(own)
    assert theirs.keys() == content['model'].keys()
    assert all(np.array_equal(content['model'][key], value) for key, value in theirs.items())
    assert read_detectron2_pickle(tmp_path / 'X.pkl').arrays.keys() == theirs.keys()


def test_tool__to_detectron2_is_no_mindspore_checkpoint(door, tmp_path):
    args = (tmp_path / 'in.pth', tmp_path / 'out.ckpt', '--to', 'detectron2')
    done = door(TOOL, *args, ok=False)
    assert done.returncode == 2
    assert 'out.ckpt would be a MindSpore checkpoint: name it .pth' in done.stderr


@pytest.mark.parametrize(
    'path', sorted(CONFIGS.glob('centernet2/*.py')), ids=lambda path: path.stem
)
def test_guess_centernet2_variant__every_config(path, numbered):
    cfg = Config.fromfile(path)
    own = numbered(path.stem)
    variant = guess_centernet2_variant(own)
    assert variant is not None
    assert variant.origin is None
    assert variant.fits(cfg.model)
    others = [other for other in VARIANT_CONFIGS.values() if other != variant.config]
    fitting = [name for name in others if variant.fits(load_config(name).model)]
    if variant.config is None:
        assert variant.num_classes != 80 or variant.channels < 160
    else:
        assert {k: v.shape for k, v in own.items()} == {
            k: v.shape for k, v in numbered(variant.config).items()
        }
        # The shapes decide which of these it is.
        assert all(numbered(name).keys() != own.keys() for name in fitting)


def test_variant_hint(numbered):
    own = numbered('centernet2_f_r50_1x')
    text = (
        'it looks like a CenterNet2-F on ResNet-50, FPN 256 wide, 80 class(es), which config '
        'centernet2_f_r50_1x builds'
    )
    assert variant_hint(own) == text
    assert variant_hint(to_detectron2(own)) == (
        f'{text}, with the names of xingyizhou/CenterNet2; tools/weights/convert.py converts it'
    )
    # mmdet's own one-stage CenterNet has the same names except for the classifier.
    other = {key: v for key, v in numbered('centernet_fpn_r50_1x').items() if 'logits' not in key}
    assert variant_hint(other) is None
    assert variant_hint({'net.0.weight': torch.ones(1)}) is None


def test_runner__names_the_variant_that_does_not_fit(small_config, random_model, tmp_path):
    from mmface.engine import FaceRunner

    one, three = arch_config(small_config, 'faster'), arch_config(small_config, 'cascade')
    torch.save(dict(state_dict=random_model(one).state_dict()), tmp_path / 'one.pth')
    runner = FaceRunner(
        model=Config.fromfile(three).model, work_dir=str(tmp_path), experiment_name='variants',
        default_scope='mmdet',
    )  # fmt: skip
    with pytest.raises(ValueError, match=r'does not fit.*; it looks like a CenterNet2-F on ResNet'):
        runner.load_checkpoint(str(tmp_path / 'one.pth'), strict=True)


def test_convert__another_variant_and_class_count_are_named(small_config, random_model, tmp_path):
    three = arch_config(small_config, 'cascade')
    model: nn.Module = random_model(three)
    torch.save(dict(model=to_detectron2(model.state_dict())), tmp_path / 'in.pth')
    one = arch_config(small_config, 'faster')
    with pytest.raises(ValueError, match=r'a CenterNet2 on ResNet-50 .*none of 1 config\(s\) has'):
        convert(tmp_path / 'in.pth', [one])
    seven = small_config('seven', roi_head=dict(bbox_head=dict(num_classes=7)))
    with pytest.raises(ValueError, match=r'5 class\(es\)\).*6 of another shape .*\(6,\).*\(8,\)'):
        convert(tmp_path / 'in.pth', [one, seven])
    found = convert(tmp_path / 'in.pth', [one, seven, three])
    assert found.config == three
    counters = [key for key in found.state_dict if key.endswith('num_batches_tracked')]
    state = {k: v for k, v in model.state_dict().items() if k not in counters}
    assert_same_tensors({k: v for k, v in found.state_dict.items() if k not in counters}, state)


def test_convert__own_checkpoint_is_read(small_config, random_model, tmp_path):
    config = arch_config(small_config, 'faster')
    own = random_model(config).state_dict()
    torch.save(dict(state_dict=own), tmp_path / 'in.pth')
    found = convert(tmp_path / 'in.pth', [config])
    assert found.source.startswith('mmface checkpoint of a CenterNet2-F')
    assert_same_tensors(found.state_dict, own)
    assert load_checkpoint_file(tmp_path / 'in.pth').keys() == {'state_dict'}
