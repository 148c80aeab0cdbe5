# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Write a CenterFace of one random layer as an ONNX file with the real ports. It runs in ms."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

_CHANNELS = {'output1': 1, 'output2': 2, 'output3': 2, 'output4': 10}


def write_toy_centerface(path: str | os.PathLike[str], batch: int | None = None) -> Path:
    """Write a file in the layout of Ascend's CenterFace recipe. Needs the package onnx.

    Input ``image`` (batch, 3, h, w) with dynamic sides; outputs ``output1`` to ``output4``:
    heatmap, logarithm of the size, offset and five keypoints in 1, 2, 2 and 10 channels, with sides
    a quarter as long.

    Args:
        path: File to write.
        batch: Batch size, ``None`` for any.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    sides = ['h', 'w']
    nodes, weights, outputs = [], [], []
    for name, channels in _CHANNELS.items():
        kernel = rng.normal(0, 0.05, (channels, 3, 4, 4)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f'{name}.weight'))
        heat = name == 'output1'
        logits = f'{name}.logits' if heat else name
        nodes.append(
            helper.make_node(
                'Conv', ['image', f'{name}.weight'], [logits], kernel_shape=[4, 4], strides=[4, 4]
            )
        )
        if heat:
            nodes.append(helper.make_node('Sigmoid', [logits], [name]))
        shape = [batch or 'n', channels, 'rows', 'columns']
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info('image', TensorProto.FLOAT, [batch or 'n', 3, *sides])
    graph = helper.make_graph(nodes, 'toy', [image], outputs, weights)
    opset = [helper.make_opsetid('', 11)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=6), os.fspath(path))
    return Path(path)
