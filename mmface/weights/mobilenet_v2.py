# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Names of MobileNetV2's layers in mmface, torchvision, MindSpore and CenterFace."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from mmface.models.backbones.mobilenet_v2_taps import STAGES, TAPS


class Layer(NamedTuple):
    """One convolution and the batch norm after it.

    Attributes:
        conv: Name of the convolution.
        norm: Name of its batch norm, or ``None`` if it has a bias instead.
    """

    conv: str
    norm: str | None


class Layout(Enum):
    """The project whose names the layers have."""

    MMFACE = 'mmface'
    CHENJUN2HAO = 'chenjun2hao'
    MINDSPORE = 'MindSpore'
    TORCHVISION = 'torchvision'
    MINDSPORE_IMAGENET = 'MindSpore (ImageNet)'

    @property
    def is_mindspore(self) -> bool:
        """Whether batch norms have MindSpore's parameter names."""
        return self in (Layout.MINDSPORE, Layout.MINDSPORE_IMAGENET)


# {number} counts the blocks of the network; the stem is 0. CenterFace's trainers split the list
# after the tapped stages and count from 0 in each piece. {tap} is the last stage of a piece.
_BLOCKS = {
    Layout.CHENJUN2HAO: 'base.feature_{tap}.{index}',
    Layout.MINDSPORE: 'base.need_fp{piece}.{index}',
    Layout.TORCHVISION: 'features.{number}',
    Layout.MINDSPORE_IMAGENET: 'features.{number}',
}
_NORM_PARAMETERS = ('weight', 'bias', 'running_mean', 'running_var')
_MINDSPORE_PARAMETERS = ('gamma', 'beta', 'moving_mean', 'moving_variance')


def backbone_layers(layout: Layout) -> list[Layer]:
    """List the layers of the backbone that CenterFace uses, in execution order.

    They do not include the last 1x1 convolution to 1280 channels and the classifier.
    """
    if layout is Layout.MMFACE:
        layers = [Layer('backbone.stem.conv', 'backbone.stem.bn')]
        for stage, (expansion, _, blocks, _) in enumerate(STAGES):
            parts = ('expand_conv', 'depthwise_conv', 'linear_conv')[expansion == 1 :]
            for block in range(blocks):
                name = f'backbone.stages.{stage}.{block}'
                layers += [Layer(f'{name}.{part}.conv', f'{name}.{part}.bn') for part in parts]
        return layers
    # In MindSpore, a cell with convolution, norm and activation has its own list.
    triple = 'features.' if layout.is_mindspore else ''
    layers = []
    number = index = piece = 0
    for stage, (expansion, _, blocks, _) in enumerate(STAGES):
        for block in range(blocks):
            if stage == block == 0:
                name = _BLOCKS[layout].format(number=0, tap=TAPS[0], piece=1, index=0)
                layers.append(Layer(f'{name}.{triple}0', f'{name}.{triple}1'))
                number = index = 1
            name = _BLOCKS[layout].format(
                number=number, tap=TAPS[piece], piece=piece + 1, index=index
            )
            linear = 1 if expansion == 1 else 2
            layers += [
                Layer(f'{name}.conv.{place}.{triple}0', f'{name}.conv.{place}.{triple}1')
                for place in range(linear)
            ]
            layers.append(Layer(f'{name}.conv.{linear}', f'{name}.conv.{linear + 1}'))
            number, index = number + 1, index + 1
        if stage in TAPS:
            piece, index = piece + 1, 0
    return layers


def parameter_names(layers: Iterable[Layer], mindspore: bool = False) -> list[str]:
    """List the names of all tensors of layers, in an order that does not depend on the names.

    Args:
        layers: Layers under any names.
        mindspore: Whether to use MindSpore's names of a batch norm's tensors.

    Returns:
        For each layer its weight, and its bias or the tensors of its norm without
        ``num_batches_tracked``.
    """
    parameters = _MINDSPORE_PARAMETERS if mindspore else _NORM_PARAMETERS
    names = []
    for layer in layers:
        names.append(f'{layer.conv}.weight')
        if layer.norm is None:
            names.append(f'{layer.conv}.bias')
        else:
            names += [f'{layer.norm}.{parameter}' for parameter in parameters]
    return names
