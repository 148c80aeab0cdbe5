# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of tracing, and of the images for checking a file."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmface.deploy.export.check import check_images, compare
from mmface.deploy.export.trace import trace


class Enlarge(nn.Module):
    """Upsample a map to the size of another, as necks do."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        like = x.repeat(1, 1, self.factor, self.factor)
        return (F.interpolate(x, size=like.shape[-2:], mode='nearest') + like,)


X = torch.arange(8.0).view(1, 2, 2, 2)


def test_doubling__reads_no_shapes_and_keeps_names_that_are_numbers(tmp_path):
    axes = {'x.1': {2: 'h', 3: 'w'}, '537': {2: 'H', 3: 'W'}}
    model = trace(Enlarge(2), [X], ['x.1'], ['537'], 11, axes)
    resize = [node for node in model.graph.node if node.op_type == 'Resize']
    assert [len(node.input) for node in resize] == [3]  # scales, no sizes
    (output,) = model.graph.output
    assert output.name == '537'
    sides = output.type.tensor_type.shape.dim
    assert [side.dim_param or side.dim_value for side in sides] == [1, 2, 'H', 'W']
    (tmp_path / 'a.onnx').write_bytes(model.SerializeToString())
    x = torch.randn(1, 2, 3, 5)
    (found,) = compare(tmp_path / 'a.onnx', Enlarge(2), [(x.numpy(), x)], 1e-6)
    assert found.largest == 0


def test_other_factors__are_refused_and_torch_stays_as_it_was():
    before = F.interpolate
    with pytest.raises(ValueError, match=r'upsampled to \(6, 6\), not to twice its size'):
        trace(Enlarge(3), [X], ['x'], ['y'], 11)
    assert F.interpolate is before


def test_opset__is_one_of_three():
    with pytest.raises(ValueError, match='opset 12: expected one of 11, 13, 17'):
        trace(Enlarge(2), [X], ['x'], ['y'], 12)


def test_compare__refuses_other_shapes(tmp_path):
    model = trace(Enlarge(2), [X], ['x'], ['y'], 11)
    (tmp_path / 'a.onnx').write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match='the ONNX file outputs the shapes'):
        compare(tmp_path / 'a.onnx', Enlarge(3), [(X.numpy(), X)], 1e-6)


def test_images__fill_batches_and_are_drawn_where_none_is_given(tmp_path):
    for value in range(4):
        cv2.imwrite(str(tmp_path / f'{value}.png'), np.full((9, 7, 3), value, np.uint8))
    found = check_images(sorted(tmp_path.iterdir()), (32, 64), 3)
    assert [int(image[0, 0, 0]) for image in found] == [0, 1, 2, 3, 0, 1]
    assert {image.shape for image in found} == {(32, 64, 3)}
    drawn = check_images((), (32, 64), 2)
    assert [image.shape for image in drawn] == [(32, 64, 3)] * 2
    assert (drawn[0] != drawn[1]).any()


def test_images_that_are_none__are_named(tmp_path):
    (tmp_path / 'a.png').write_text('text')
    with pytest.raises(ValueError, match=r'a\.png is not an image'):
        check_images([tmp_path / 'a.png'], (32, 32), 1)
    with pytest.raises(FileNotFoundError, match=r'b\.png does not exist'):
        check_images([tmp_path / 'b.png'], (32, 32), 1)
