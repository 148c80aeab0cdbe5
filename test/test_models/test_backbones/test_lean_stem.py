# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The stem equals its modules in sequence, and keeps less for the backward pass."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmface.models.backbones.lean_stem import LeanStem
from mmface.models.backbones.staged_backbone import conv_norm_relu


def _stem(channels: int = 8) -> LeanStem:
    torch.manual_seed(0)
    conv, norm, relu = conv_norm_relu(channels, 2 * channels)
    stem = LeanStem(
        *conv_norm_relu(3, channels, stride=2),
        *conv_norm_relu(channels, channels),
        *(conv, norm, nn.MaxPool2d(2, 2), relu),
    )
    for module in stem:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return stem


def _train(stem: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return output, gradients and buffers of two steps."""
    found = {}
    for step in range(2):
        stem.zero_grad()
        out = stem(images)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        found |= {f'{step} {name}': value.clone() for name, value in stem.named_buffers()}
        found |= {f'{step} {name}.grad': value.grad for name, value in stem.named_parameters()}
        found[f'{step} out'] = out.detach()
    return found


@pytest.mark.parametrize('memory_format', (torch.contiguous_format, torch.channels_last))
@pytest.mark.parametrize('size', ((64, 96), (65, 91), (70, 94)))
def test_forward__equals_the_sequence_bit_for_bit(size, memory_format):
    stem = _stem().to(memory_format=memory_format)
    sequence = nn.Sequential(*copy.deepcopy(stem))
    sequence[8], sequence[9] = sequence[9], sequence[8]  # ReLU before the pool
    images = torch.randn(2, 3, *size)
    images[..., :20, :] = 0.5  # equal values in many windows
    images = images.to(memory_format=memory_format)
    ours, theirs = _train(stem, images), _train(sequence, images)
    names = {'1 out', '1 0.weight.grad', '1 1.running_mean', '1 1.num_batches_tracked'}
    assert names <= ours.keys()
    for name, value in theirs.items():
        if '.grad' in name or 'out' in name:
            assert value.abs().sum() > 0
        assert ours[name].equal(value), name
    assert ours['1 1.num_batches_tracked'] == 2
    stem.eval(), sequence.eval()
    assert stem(images).equal(sequence(images))


def _kept(stem: nn.Module, images: torch.Tensor) -> int:
    """Return the bytes of the storages that autograd keeps."""
    storages = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = stem(images)
        total = sum(storages.values())  # while all of them exist
    assert out.requires_grad
    return total


def test_forward__half_of_the_memory_is_kept():
    images = torch.randn(2, 3, 128, 128)
    stem = _stem()
    assert _kept(stem, images) < 0.6 * _kept(nn.Sequential(*stem), images)


def test_train__frozen_stem_keeps_its_statistics():
    stem = _stem().eval().requires_grad_(False)
    before = {name: value.clone() for name, value in stem.state_dict().items()}
    stem(torch.randn(2, 3, 64, 64))
    assert all(value.equal(before[name]) for name, value in stem.state_dict().items())


def test_forward__two_backward_passes_and_slices():
    stem = _stem()
    images = torch.randn(2, 3, 32, 32)
    total = stem(images).sum()
    weights = list(stem.parameters())
    first = torch.autograd.grad(total, weights, retain_graph=True)
    second = torch.autograd.grad(total, weights)
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))
    assert stem[1].num_batches_tracked == 1
    assert stem[:3](images).shape == (2, 8, 16, 16)
