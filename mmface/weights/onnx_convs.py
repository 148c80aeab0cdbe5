# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read the convolutions of an exported network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


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
        ValueError: The file is not an ONNX file, a convolution's weight is not a constant, a
            batch norm is not directly behind a convolution, or its tensors are damaged.
    """
    from mmface.weights.onnx_repair import load_onnx, repair

    model = load_onnx(path)
    try:
        return _read_graph(repair(model).graph)
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise ValueError(f'{path}: {error or type(error).__name__}') from error


def _read_graph(graph: Any) -> OnnxNetwork:
    """Collect the weights in execution order."""
    from onnx import numpy_helper

    from mmface.weights.onnx_repair import constants, number

    known = {name: numpy_helper.to_array(tensor) for name, tensor in constants(graph).items()}
    convs: list[ConvWeights] = []
    deconvs: list[ConvWeights] = []
    group_norms: list[GroupNormWeights] = []
    clipped = False
    factors: list[float] = []
    for node in graph.node:
        if node.op_type in ('Conv', 'ConvTranspose'):
            names = [name for name in node.input[1:] if name]
            if any(name not in known for name in names):
                raise ValueError(f'the weight of convolution {node.name!r} is not a constant')
            tensors = [np.asarray(known[name], np.float32) for name in names]
            (convs if node.op_type == 'Conv' else deconvs).append(
                ConvWeights(tensors[0], tensors[1] if len(tensors) > 1 else None)
            )
        elif node.op_type == 'BatchNormalization':
            raise ValueError(
                f'batch norm {node.name!r} is not folded into a convolution; export in '
                'evaluation mode with constant folding, or use the .pth file'
            )
        elif node.op_type == 'InstanceNormalization':
            weight, bias = _affine(graph, node, known)
            epsilon = number(node, 'epsilon', 1e-5)
            group_norms.append(GroupNormWeights(len(known[node.input[1]]), epsilon, weight, bias))
        elif node.op_type == 'Clip':
            clipped = True
        elif node.op_type == 'Mul':
            scalars = [known[name] for name in node.input if name in known]
            factors += [float(value.reshape(())) for value in scalars if value.size == 1]
    return OnnxNetwork(convs, factors, deconvs, clipped, group_norms)


def _affine(
    graph: Any, norm: Any, known: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias of a group norm.

    Exporters write it as a reshape to (B, groups, -1), an instance norm without effect of its own,
    a reshape back, a multiplication and an addition with one value per channel.
    """
    value, found = norm.output[0], []
    for kind in ('Reshape', 'Mul', 'Add'):
        readers = [node for node in graph.node if value in node.input]
        if len(readers) != 1 or readers[0].op_type != kind:
            raise ValueError(f'instance norm {norm.name!r} is not part of a group norm')
        found += [known[name] for name in readers[0].input if kind != 'Reshape' and name in known]
        value = readers[0].output[0]
    scale, shift = (known[name] for name in norm.input[1:3])
    if len(found) != 2 or not (np.all(scale == 1) and np.all(shift == 0)):
        raise ValueError(f'instance norm {norm.name!r} is not part of a group norm')
    weight, bias = (np.asarray(each, np.float32).reshape(-1) for each in found)
    return weight, bias
