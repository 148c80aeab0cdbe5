# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Shared parts of tests in several folders: configs, heads, ground truth, tensors, checks.

Heads and pipelines come from the real configs, so that tests use the models that users train.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmface.weights.centerface import layers_of
from mmface.weights.mobilenet_v2 import Layout, parameter_names

REPO = Path(__file__).resolve().parents[1]
CONFIGS = REPO / 'configs'


@cache
def _read(name: str) -> Config:
    return Config.fromfile(config_file(name))


def config_file(name: str) -> Path:
    """Find a config by its name, as users do, or by its path inside the configs folder."""
    name = name.removesuffix('.py')
    (found,) = CONFIGS.glob(f'{name}.py' if '/' in name else f'*/{name}.py')
    return found


def load_config(name: str) -> Config:
    """Load a config that the caller may change, and set its scope."""
    cfg = copy.deepcopy(_read(name))
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return cfg


def scrfd_head(
    num_keypoints: int = 5, num_classes: int = 1, full_search: bool = False, **changes: Any
) -> nn.Module:
    """Build the head of SCRFD for maps of 8 channels, with one convolution before it."""
    cfg = load_config('scrfd_500m_bnkps').model
    cfg.bbox_head.head_module.update(in_channels=8, feat_channels=8, stacked_convs=1)
    cfg.train_cfg.assigner.full_search = full_search
    cfg.bbox_head.update(num_keypoints=num_keypoints, num_classes=num_classes)
    return _build_head(cfg, changes)


def centerface_head(
    convention: str = 'centernet', targets: dict | None = None, **changes: Any
) -> nn.Module:
    """Build the head of CenterFace for maps of 8 channels."""
    cfg = load_config('centerface').model
    cfg.bbox_head.head_module.in_channels = 8
    cfg.bbox_head.coder.convention = convention
    cfg.train_cfg.targets.update(targets or {})
    return _build_head(cfg, changes)


def _build_head(cfg: ConfigDict, changes: Mapping[str, Any]) -> nn.Module:
    options = dict(train_cfg=cfg.train_cfg, test_cfg=cfg.test_cfg)
    # Replaces the value of the config. ``update`` would merge into it.
    return MODELS.build({**cfg.bbox_head, **options, **changes})


def objects(boxes: Sequence | Tensor, labels: Sequence[int] | None = None) -> InstanceData:
    """Build ground truth of xyxy boxes. Without ``labels`` all are of class 0."""
    bboxes = torch.as_tensor(boxes, dtype=torch.float32).view(-1, 4)
    labels = [0] * len(bboxes) if labels is None else labels
    return InstanceData(bboxes=bboxes, labels=torch.as_tensor(labels, dtype=torch.long))


def faces(boxes: Sequence | Tensor, keypoints: Sequence | Tensor | None = None) -> InstanceData:
    """Build ground truth with keypoints: (N, 5, 3), (N, 5, 2) of weight 1, or all of weight 0."""
    found = objects(boxes)
    found.keypoints = torch.zeros(len(found), 5, 3)
    if keypoints is not None:
        given = torch.as_tensor(keypoints)
        found.keypoints[..., 2] = 1
        found.keypoints[..., : given.shape[-1]] = given
    return found


def samples_of(gts: Sequence[InstanceData], **meta: Any) -> list[DetDataSample]:
    """Build a data sample with the same meta information for each ground truth."""
    samples = [DetDataSample(metainfo=meta) for _ in gts]
    for sample, gt in zip(samples, gts, strict=True):
        sample.gt_instances = gt
    return samples


def batch_of(gts: Sequence[InstanceData], size: int, seed: int = 0) -> dict:
    """Build a batch like a data loader does: square noise images with this ground truth."""
    images = torch.randint(
        0, 256, (len(gts), 3, size, size), generator=torch.Generator().manual_seed(seed)
    )
    meta = dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0))
    return dict(inputs=list(images.to(torch.uint8)), data_samples=samples_of(gts, **meta))


def random_maps(*shapes: Sequence[int], seed: int = 0, grad: bool = False) -> list[Tensor]:
    """Draw one normal tensor for each shape."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(tuple(s), generator=generator).requires_grad_(grad) for s in shapes]


def random_boxes(
    *shape: int,
    place: tuple[float, float],
    side: tuple[float, float],
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw (*shape, 4) boxes with top-left corners within ``place`` and sides within ``side``."""
    corner, more = (
        low + torch.rand(*shape, 2, generator=generator) * (high - low)
        for low, high in (place, side)
    )
    return torch.cat([corner, corner + more], dim=-1)


def assert_same_tensors(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> None:
    """Compare names and values, such as those of state dicts, for exact equality."""
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert value.shape == right[key].shape, key
        assert torch.equal(value, right[key]), key


def results_of(
    img: np.ndarray,
    boxes: Sequence | np.ndarray = (),
    keypoints: np.ndarray | None = None,
    ignore: Sequence[bool] | None = None,
) -> dict:
    """Build the dict of labels and image that transforms pass on.

    Without ``keypoints`` none is labelled, without ``ignore`` all faces count.
    """
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    if keypoints is None:
        keypoints = np.full((len(boxes), 5, 3), (-1, -1, 0))
    return dict(
        img=img,
        gt_bboxes=boxes,
        gt_bboxes_labels=np.zeros(len(boxes), np.int64),
        gt_keypoints=np.array(keypoints, np.float32),
        gt_ignore_flags=np.zeros(len(boxes), bool) if ignore is None else np.array(ignore, bool),
    )


def seed_all(seed: int) -> None:
    """Set all global generators to the state of a new process with this seed."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def state_of(runner: Runner) -> dict[str, Tensor]:
    """Collect the weights, buffers and momenta of a run."""
    state = dict(runner.model.state_dict())
    for number, group in enumerate(runner.optim_wrapper.optimizer.state.values()):
        state[f'momentum{number}'] = group['momentum_buffer']
    return state


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that an operator returns."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                # Expanded tensors use less memory than their shape suggests.
                self.count = max(self.count, leaf.untyped_storage().nbytes() // leaf.itemsize)
        return out


def named_as(layout: Layout, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return mmface's weights under the names of another project; only weights that both have."""
    table = dict(
        zip(
            parameter_names(layers_of(Layout.MMFACE)),
            parameter_names(layers_of(layout), layout.is_mindspore),
            strict=False,
        )
    )
    return {table[key]: value for key, value in state.items() if key in table}
