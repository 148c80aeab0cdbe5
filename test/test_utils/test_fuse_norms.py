# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Norms are folded where that is right; otherwise the model stays as it is and says why.

Tests of every config check that all norms of our models are folded.
"""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.logging import MMLogger
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmface.utils.fuse_norms import fuse_norms


def conv(inputs=4):
    return nn.Conv2d(inputs, 4, 3, padding=1)


class Straight(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = conv(3), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


class ActivationBetween(Straight):
    def forward(self, x):
        return self.norm(self.conv(x).relu())


class ConvolutionReadTwice(Straight):
    def forward(self, x):
        x = self.conv(x)
        return x + self.norm(x)


class TwoNorms(Straight):
    """One convolution, whose results pass through two norms."""

    def __init__(self):
        super().__init__()
        self.other = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) + self.other(x)


class SharedConvolution(nn.Module):
    """One convolution in two modules, each with a norm of its own."""

    def __init__(self):
        super().__init__()
        shared = conv(3)
        self.left = nn.Sequential(shared, nn.BatchNorm2d(4))
        self.right = nn.Sequential(shared, nn.BatchNorm2d(4))

    def forward(self, x):
        return self.left(x), self.right(x)


class SharedNorm(nn.Module):
    """One norm behind two convolutions: right."""

    def __init__(self):
        super().__init__()
        shared = nn.BatchNorm2d(4)
        self.left, self.right = nn.Sequential(conv(3), shared), nn.Sequential(conv(3), shared)

    def forward(self, x):
        return self.left(x), self.right(x)


class Crossed(nn.Module):
    """Registered in another order than used."""

    def __init__(self):
        super().__init__()
        self.first, self.second = conv(3), conv()
        self.norm, self.last = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.last(self.second(self.norm(self.first(x))))


class Deconvolution(nn.Module):
    """A norm behind a transposed convolution that follows a convolution."""

    def __init__(self):
        super().__init__()
        self.conv, self.up = conv(3), nn.ConvTranspose2d(4, 4, 2, 2)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.up(self.conv(x).relu()))


@torch.no_grad()
def build(kind):
    torch.manual_seed(0)
    model = kind().eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


@pytest.fixture
def warnings():
    """Collect the warnings of mmengine's log."""
    logger = MMLogger.get_current_instance()
    found = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def outputs(model):
    with torch.no_grad():
        return model(torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(5)))


def norms(model):
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


@pytest.mark.parametrize('kind', [Straight, SharedNorm])
def test_fuse_norms__folds_what_is_right(kind, warnings):
    model = build(kind)
    before = outputs(model)
    assert fuse_norms(model)
    assert norms(model) == 0
    torch.testing.assert_close(outputs(model), before, rtol=1e-4, atol=1e-5)
    assert not warnings


@pytest.mark.parametrize(
    ('kind', 'norm'),
    [
        (ActivationBetween, 'norm'),
        (ConvolutionReadTwice, 'norm'),
        (TwoNorms, 'norm'),
        (SharedConvolution, 'left.1'),
        (Crossed, 'norm'),
    ],
)
def test_fuse_norms__leaves_what_would_be_wrong_and_names_it(kind, norm, warnings):
    model = build(kind)
    before = outputs(model)
    # mmcv alone changes the outputs.
    theirs = outputs(fuse_conv_bn(copy.deepcopy(model)))
    pairs = zip(*((x,) if torch.is_tensor(x) else x for x in (before, theirs)), strict=True)
    assert not all(torch.allclose(*pair, rtol=1e-3, atol=1e-3) for pair in pairs)
    count = norms(model)
    assert not fuse_norms(model)
    assert norms(model) == count
    torch.testing.assert_close(outputs(model), before, rtol=0, atol=0)
    assert len(warnings) == 1
    assert f'not folded: with {norm} folded into' in warnings[0]


def test_fuse_norms__skips_one_behind_a_transposed_convolution(warnings):
    model = build(Deconvolution)
    before = outputs(model)
    assert not torch.allclose(outputs(fuse_conv_bn(copy.deepcopy(model))), before, atol=1e-3)
    assert not fuse_norms(model)
    torch.testing.assert_close(outputs(model), before, rtol=0, atol=0)
    assert not warnings


def test_fuse_norms__model_that_takes_no_image_stays(warnings):
    model = nn.Sequential(conv(5), nn.BatchNorm2d(4))
    assert not fuse_norms(model)
    assert norms(model) == 1
    assert 'batch norms are not folded: ' in warnings[0]


def test_fuse_norms__looks_inside_of_wrappers():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = build(Straight)

    model = Wrapper()
    assert fuse_norms(model)
    assert norms(model) == 0
