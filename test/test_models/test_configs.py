# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Every config loads, builds, trains a step, predicts, and keeps its weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS, OPTIM_WRAPPERS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch.nn.modules.batchnorm import _BatchNorm

from mmface.engine.master_weights import cast_to_half
from mmface.engine.o2_optim_wrapper import O2OptimWrapper
from mmface.utils.fuse_norms import fuse_norms

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
ALL = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.glob('*/*.py')
    if path.parent.name != '_base_'
)


O2 = [name for name in ALL if name.endswith('_o2.py')]


def inherited(name: str) -> str | None:
    """Return the config from which `name` inherits its model, if it is another one of ALL."""
    text = (CONFIGS / name).read_text()
    base = re.search(r"^_base_ = \[?\s*'\./(.*?)'", text, re.MULTILINE)
    if base is None or re.search(r'^model\b', text, re.MULTILINE):
        return None
    return f'{Path(name).parent}/{base.group(1)}'


# Many configs differ only in their schedule: test each model once.
SAME = {name: base for name in ALL if (base := inherited(name))}
MODEL_CONFIGS = [name for name in ALL if name not in SAME]


def build(name: str, initialise: bool = True) -> tuple[Config, torch.nn.Module]:
    torch.manual_seed(0)  # the same weights and draws, whatever ran before
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    # The test uses small images; the published padding would only cost time.
    cfg.model.data_preprocessor.pad_size = None
    if 'roi_head' in cfg.model:  # a thousand RoIs would cost time too
        cfg.model.train_cfg.rpn_proposal.max_per_img = 64
        cfg.model.train_cfg.rcnn.num_samples = 32
    model = MODELS.build(cfg.model)
    if initialise:
        model.init_weights()
    return cfg, model


def batch(size: int = 64, count: int = 2) -> dict:
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(count):
        sample = DetDataSample(
            metainfo=dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0))
        )
        box = torch.tensor([[10.0, 12.0, 40.0, 50.0]])
        keypoints = torch.rand(1, 5, 3, generator=generator) * 30 + 10
        keypoints[..., 2] = 1
        sample.gt_instances = InstanceData(
            bboxes=box, labels=torch.zeros(1, dtype=torch.long), keypoints=keypoints
        )
        samples.append(sample)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator)
    return dict(inputs=list(images.to(torch.uint8)), data_samples=samples)


def test_configs__are_found():
    assert len(ALL) >= 10
    assert set(SAME.values()) <= set(ALL)


@pytest.mark.parametrize(('name', 'base'), SAME.items())
def test_config__has_the_model_of_its_base(name, base):
    assert Config.fromfile(CONFIGS / name).model == Config.fromfile(CONFIGS / base).model


@pytest.mark.parametrize('name', MODEL_CONFIGS)
def test_config__trains_predicts_and_keeps_its_weights(name):
    cfg, model = build(name)
    losses = model(**model.data_preprocessor(batch(), training=True), mode='loss')
    total = sum(
        sum(value) if isinstance(value, list) else value
        for key, value in losses.items()
        if 'loss' in key  # CenterNet2 also returns an accuracy
    )
    total.backward()
    assert torch.isfinite(total)
    if 'roi_head' in cfg.model:
        assert {'rpn_loss_loc', 'rpn_loss_agn_pos', 'rpn_loss_agn_neg'} <= losses.keys()
        stages = cfg.model.roi_head.num_stages
        prefixes = [f's{stage}.' for stage in range(stages)] if stages > 1 else ['']
        assert {f'{p}loss_{kind}' for p in prefixes for kind in ('cls', 'bbox')} <= losses.keys()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    used = [gradient for gradient in gradients if gradient is not None]
    assert used
    assert all(torch.isfinite(gradient).all() for gradient in used)

    model.eval()
    with torch.no_grad():
        inputs = model.data_preprocessor(batch())
        first = model(**inputs, mode='predict')
    instances = first[0].pred_instances
    assert instances.bboxes.shape == (len(instances), 4)
    if cfg.model.get('bbox_head', {}).get('num_keypoints'):
        assert instances.keypoints.shape[1:] == (cfg.model.bbox_head.num_keypoints, 3)

    _, other = build(name, initialise=False)
    other.load_state_dict(model.state_dict())
    other.eval()
    with torch.no_grad():
        raw = model(inputs['inputs'], mode='tensor')
        again = other(inputs['inputs'], mode='tensor')
    for maps, same in zip(raw, again, strict=True):
        for left, right in zip(maps, same, strict=True):
            assert torch.equal(left, right)

    # The proposals of an untrained network, and with them the results of two-stage models, depend
    # on every bit.
    norms = sum(isinstance(module, _BatchNorm) for module in other.modules())
    assert fuse_norms(other) == bool(norms)
    assert sum(isinstance(module, _BatchNorm) for module in other.modules()) < max(norms, 1)
    first_stage = 'rpn_head' if 'roi_head' in cfg.model else 'bbox_head'
    with torch.no_grad():
        raw, close = (
            getattr(each, first_stage)(each.extract_feat(inputs['inputs']))
            for each in (model, other)
        )
    for maps, same in zip(raw, close, strict=True):
        for left, right in zip(maps, same, strict=True):
            # A hundred untrained deformable layers amplify rounding.
            assert (right - left).abs().max() < 0.02 * left.abs().max()


@pytest.mark.parametrize('name', O2)
def test_config__steps_in_o2(name):
    """Train in bfloat16: float16 convolutions take twenty times longer on a CPU."""
    cfg, model = build(name)
    assert OPTIM_WRAPPERS.get(cfg.optim_wrapper.type) is O2OptimWrapper
    cfg.optim_wrapper.dtype = 'bfloat16'
    cast_to_half(model, 'bfloat16', cfg.optim_wrapper.half_norms)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    # The state dict holds the float32 master weights. With frozen norms, less than half is trained.
    trained = [key for key, value in model.named_parameters() if value.requires_grad]
    before = {key: model.state_dict()[key].clone() for key in trained}
    model.train_step(batch(), wrapper)
    assert wrapper.skipped_steps == 0
    assert wrapper.loss_scaler.get_scale() == cfg.optim_wrapper.loss_scale
    after = model.state_dict()
    moved = [key for key, value in before.items() if not torch.equal(value, after[key])]
    assert len(moved) > len(before) * 0.8
    assert all(torch.isfinite(value).all() for value in after.values())
