# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The two graphs of CenterNet2 compute its two stages."""

from __future__ import annotations

import copy
import warnings

import onnx
import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmface.apis.config import load_config
from mmface.deploy.export.export import export_onnx
from mmface.deploy.export.options import ExportOptions
from mmface.deploy.export.two_stage import ProposalNetwork, RoINetwork, export_two_stage
from mmface.deploy.model_spec import METADATA_KEY, ModelSpec
from mmface.deploy.om_lint import lint

SIZE = (96, 160)


@pytest.fixture(scope='module')
def toy(repo):
    cfg = load_config(str(repo / 'configs/centernet2/centernet2_toy.py'))
    init_default_scope(cfg.default_scope)
    cfg.model.test_cfg.rpn.update(nms_pre=100, max_per_img=64, score_thr=0.0)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    for module in model.roi_head.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, 0, 0.05)
    return cfg, model


@pytest.fixture(scope='module')
def image():
    return torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_proposals__are_the_candidates_of_the_head(toy, image):
    _, model = toy
    boxes, scores, *feats = ProposalNetwork(model)(image)
    found = model.rpn_head.candidates(*model.rpn_head(feats), model.test_cfg.rpn)
    assert len(feats) == 5
    torch.testing.assert_close(boxes, found.bboxes)
    torch.testing.assert_close(scores, found.scores)


@torch.no_grad()
def test_rois__are_what_the_second_stage_gives(toy, image):
    _, model = toy
    _, _, *feats = ProposalNetwork(model)(image)
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(64, 2, generator=generator) * 60
    # From one cell to the whole image: boxes of several levels.
    sides = 2 ** (torch.rand(64, 2, generator=generator) * 6 + 1)
    bboxes = torch.cat([corner, corner + sides], 1)
    scores = torch.rand(64, generator=generator)
    limits = torch.tensor([150.0, 90.0, 150.0, 90.0])
    found, chance = RoINetwork(model)(*feats, bboxes, scores, limits)
    sample = DetDataSample(metainfo=dict(img_shape=(90, 150)))
    all_logits, all_bboxes = model.roi_head(
        feats, [InstanceData(bboxes=bboxes, scores=scores)], [sample]
    )
    wanted = sum(logits.softmax(-1) for logits in all_logits)[0, :, :-1] / 3
    torch.testing.assert_close(found, all_bboxes[-1][0])
    torch.testing.assert_close(chance, (wanted * scores[:, None]).sqrt())
    assert wanted.std() > 1e-3


def test_export__has_fixed_shapes_and_plain_operators(toy, tmp_path):
    cfg, model = toy
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        files, differences = export_two_stage(
            cfg, model, tmp_path / 'a.onnx', ExportOptions(size=SIZE, opset=17), ()
        )
    assert [file.name for file in files] == ['a_proposals.onnx', 'a_rois.onnx']
    assert len(differences) == 9
    assert max(item.excess for item in differences) < 1
    for file in files:
        graph = onnx.load(file)
        assert lint(graph) == []
        (prop,) = graph.metadata_props
        assert prop.key == METADATA_KEY
        assert ModelSpec.from_json(prop.value).num_proposals == 64


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(opset=17), r'size=\(height'),
        (dict(opset=11, size=SIZE), 'opset=17'),
        (dict(opset=17, size=SIZE, layout='decoded'), 'only the layout raw'),
    ],
)
def test_options__are_checked(toy, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export_two_stage(*toy, tmp_path / 'a.onnx', ExportOptions(**options))
    assert not list(tmp_path.iterdir())


def test_deformable_convolutions__are_refused(toy, tmp_path):
    cfg, model = toy
    model = copy.deepcopy(model)
    model.backbone.layer4[0].conv2 = ModulatedDeformConv2dPack(64, 64, 3, padding=1)
    with pytest.raises(ValueError, match='deformable convolutions'):
        export_two_stage(cfg, model, tmp_path / 'a.onnx', ExportOptions(size=SIZE, opset=17))


def test_one_stage_function__names_the_other(toy, tmp_path):
    with pytest.raises(ValueError, match='use export_two_stage'):
        export_onnx(*toy, tmp_path / 'a.onnx', ExportOptions(size=SIZE))
