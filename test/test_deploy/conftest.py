# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Provide detectors with random weights, small ONNX networks and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mmface.apis.config import load_config
from mmface.deploy.model_spec import METADATA_KEY, ModelSpec

KINDS = (('score', 1), ('bbox', 4), ('kps', 10))


@torch.no_grad()
def randomise(model: nn.Module) -> nn.Module:
    """Set random weights in all layers, and norm statistics from real activations."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(module.weight, 0.3, 0.8, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # average over all batches
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity='relu', generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    head = model.bbox_head.module
    if hasattr(head, 'size'):  # logarithms: clip unbounded boxes
        head.size.weight *= 0.1
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    inputs = model.data_preprocessor(dict(inputs=list(images)))['inputs'][..., :64, :64]
    model.train()
    head(model.extract_feat(inputs))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # dead channels must not get huge on other images
            module.running_var.clamp_(min=0.1)
    return model.eval()


@pytest.fixture(scope='session')
def detector(repo):
    """Return config and model of a config name. They are cached and must not be changed.

    Further arguments are options of the head.
    """

    @cache
    def build(name: str, **head: int) -> tuple[Config, nn.Module]:
        cfg = load_config(str(repo / 'configs' / name))
        init_default_scope(cfg.default_scope)
        cfg.model.bbox_head.update(head)
        return cfg, randomise(MODELS.build(cfg.model))

    return build


def write_scrfd(
    path: Path,
    rank: int = 3,
    sides: Sequence[int | str] = ('H', 'W'),
    batch: int | str = 'B',
    kinds: int = 3,
    strides: Sequence[int] = (8, 16, 32),
    num_priors: int = 2,
    names: Sequence[str] | None = None,
    spec: ModelSpec | None = None,
    input_type: int = TensorProto.FLOAT,
) -> Path:
    """Write a network that averages over each cell and then applies random 1x1 convolutions.

    Its outputs are maps (``rank`` 4), or rows with (3) or without (2) a batch axis.
    """
    generator = np.random.default_rng(0)
    nodes, weights, outputs = [], [], []
    nodes.append(helper.make_node('Cast', ['input.1'], ['pixels'], to=TensorProto.FLOAT))
    for stride in strides:
        nodes.append(
            helper.make_node(
                'AveragePool',
                ['pixels'],
                [f'cells_{stride}'],
                kernel_shape=[stride] * 2,
                strides=[stride] * 2,
            )
        )
    for index, (kind, channels) in enumerate(KINDS[:kinds]):
        for level, stride in enumerate(strides):
            count = num_priors * channels
            name = f'{kind}_{stride}' if names is None else names[index * len(strides) + level]
            kernel = generator.normal(0, 2, (count, 3, 1, 1)).astype(np.float32)
            # Boxes extend some pixels in each direction.
            bias = np.full(count, 2.0 if kind == 'bbox' else -1.5, np.float32)
            weights.append(numpy_helper.from_array(kernel, f'w_{kind}_{stride}'))
            weights.append(numpy_helper.from_array(bias, f'b_{kind}_{stride}'))
            steps = [('Conv', {}, [f'w_{kind}_{stride}', f'b_{kind}_{stride}'])]
            if kind == 'score':
                steps.append(('Sigmoid', {}, []))
            if rank < 4:
                shape = np.array([0, -1, channels] if rank == 3 else [-1, channels])
                weights.append(numpy_helper.from_array(shape, f's_{kind}_{stride}'))
                steps.append(('Transpose', {'perm': [0, 2, 3, 1]}, []))
                steps.append(('Reshape', {}, [f's_{kind}_{stride}']))
            value = f'cells_{stride}'
            for step, (operator, attributes, more) in enumerate(steps):
                result = name if step == len(steps) - 1 else f'{kind}_{stride}_{step}'
                nodes.append(helper.make_node(operator, [value, *more], [result], **attributes))
                value = result
            shape = {2: ['n', channels], 3: [batch, 'n', channels], 4: [batch, count, 'h', 'w']}
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape[rank]))
    source = helper.make_tensor_value_info('input.1', input_type, [batch, 3, *sides])
    return save(path, nodes, source, outputs, weights, spec)


def write_centerface(
    path: Path,
    names: Sequence[str] = ('537', '538', '539', '540'),
    source: str = 'input.1',
    shape: Sequence[int | str] = ('B', 3, 'H', 'W'),
) -> Path:
    """Write a network with CenterFace's four maps, built like those of ``write_scrfd``."""
    generator = np.random.default_rng(0)
    pool = helper.make_node('AveragePool', [source], ['cells'], kernel_shape=[4, 4], strides=[4, 4])
    nodes, weights, outputs = [pool], [], []
    for name, channels in zip(names, (1, 2, 2, 10), strict=True):
        kernel = generator.normal(0, 0.01, (channels, 3, 1, 1)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f'w_{name}'))
        nodes.append(helper.make_node('Conv', ['cells', f'w_{name}'], [f'{name}_raw']))
        operator = 'Sigmoid' if channels == 1 else 'Identity'
        nodes.append(helper.make_node(operator, [f'{name}_raw'], [name]))
        outputs.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], channels, 'h', 'w'])
        )
    value = helper.make_tensor_value_info(source, TensorProto.FLOAT, list(shape))
    return save(path, nodes, value, outputs, weights)


def save(path: Path, nodes, source, outputs, weights, spec: ModelSpec | None = None) -> Path:
    graph = helper.make_graph(nodes, 'network', [source], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 11)], ir_version=7)
    if spec is not None:
        helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture(scope='session')
def scrfd_file(tmp_path_factory) -> Callable[..., Path]:
    """Write a small SCRFD file: ``scrfd_file(**options of write_scrfd)``."""
    return lambda **options: write_scrfd(tmp_path_factory.mktemp('scrfd') / 'net.onnx', **options)


@pytest.fixture(scope='session')
def centerface_file(tmp_path_factory) -> Callable[..., Path]:
    """Write a small CenterFace file: ``centerface_file(**options of write_centerface)``."""
    return lambda **options: write_centerface(
        tmp_path_factory.mktemp('centerface') / 'net.onnx', **options
    )


@pytest.fixture
def make_image() -> Callable[..., np.ndarray]:
    """Draw noise in coarse squares, which a resize preserves: ``make_image(h, w, seed)``."""

    def draw(height: int, width: int, seed: int = 0) -> np.ndarray:
        generator = np.random.default_rng(seed)
        coarse = generator.integers(0, 256, (-(-height // 16), -(-width // 16), 3), dtype=np.uint8)
        return np.kron(coarse, np.ones((16, 16, 1), np.uint8))[:height, :width]

    return draw
