# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read the convolutions of an exported network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmface.utils.extras import optional_imports


class ConvWeights(NamedTuple):
    """One convolution of an ONNX graph.

    Attributes:
        weight: (out, in / groups, k, k) float32; if transposed, (in, out / groups, k, k).
        bias: (out,) float32 or ``None``.
    """

    weight: np.ndarray
    bias: np.ndarray | None


class GroupNormWeights(NamedTuple):
    """One group norm of an ONNX graph.

    Attributes:
        groups: Number of groups.
        epsilon: Added to the variances.
        weight: (channels,) float32.
        bias: (channels,) float32.
    """

    groups: int
    epsilon: float
    weight: np.ndarray
    bias: np.ndarray


class OnnxNetwork(NamedTuple):
    """Parts of an exported network that a converter needs.

    Attributes:
        convs: The convolutions in execution order. Exporters preserve that order, but names
            differ. Layers whose batch norm was folded lose their names, and equal tensors are
            stored once under the name of the first.
        factors: The scalar constants by which the graph multiplies, in execution order.
        deconvs: The transposed convolutions in execution order.
        clipped: Whether an activation has an upper bound (ReLU6).
        group_norms: The group norms in execution order.
    """

    convs: list[ConvWeights]
    factors: list[float]
    deconvs: Sequence[ConvWeights] = ()
    clipped: bool = False
    group_norms: Sequence[GroupNormWeights] = ()


def read_onnx(path: str | Path) -> OnnxNetwork:
    """Read the weights of an ONNX file.

    Args:
        path: An ``.onnx`` file with its weights inside.

    Returns:
        Convolutions and factors in execution order.

    Raises:
        FileNotFoundError: The file does not exist.
        ModuleNotFoundError: The package ``onnx`` is not installed.
        ValueError: The file is not an ONNX model, a convolution's weight is not a constant, a
            batch norm is not folded, or its tensors are damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no such file: {path}')
    with optional_imports():
        import onnx
        from onnx import numpy_helper
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf raises its own class, whose module differs by version
        raise ValueError(f'{path} is not an ONNX model: {error}') from error
    try:
        return _read_graph(graph, numpy_helper.to_array)
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise ValueError(f'{path}: {error or type(error).__name__}') from error


def _read_graph(graph: Any, to_array: Callable[[Any], np.ndarray]) -> OnnxNetwork:
    """Collect the weights in execution order."""
    constants = {tensor.name: to_array(tensor) for tensor in graph.initializer}
    convs: list[ConvWeights] = []
    deconvs: list[ConvWeights] = []
    clipped = False
    factors: list[float] = []
    for node in graph.node:
        if node.op_type == 'Constant' and node.attribute[0].name == 'value':
            constants[node.output[0]] = to_array(node.attribute[0].t)
        elif node.op_type == 'Identity' and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
        elif node.op_type in ('Conv', 'ConvTranspose'):
            if any(name not in constants for name in node.input[1:]):
                raise ValueError(f'the weight of convolution {node.name!r} is not a constant')
            tensors = [np.asarray(constants[name], np.float32) for name in node.input[1:]]
            (convs if node.op_type == 'Conv' else deconvs).append(
                ConvWeights(tensors[0], tensors[1] if len(tensors) > 1 else None)
            )
        elif node.op_type == 'BatchNormalization':
            raise ValueError(
                f'batch norm {node.name!r} is not folded into a convolution; export in '
                'evaluation mode with constant folding, or use the .pth file'
            )
        elif node.op_type == 'Clip':
            clipped = True
        elif node.op_type == 'Mul':
            scalars = [constants[name] for name in node.input if name in constants]
            factors += [float(value.reshape(())) for value in scalars if value.size == 1]
    return OnnxNetwork(convs, factors, deconvs, clipped)
