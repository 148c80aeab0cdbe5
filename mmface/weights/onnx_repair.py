# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Repair old ONNX files in memory, so that all parts of mmface take them as they are.

Old exporters list the weights among the inputs of the graph (onnxruntime then optimises nothing),
leave batch norms behind transposed convolutions, and fix the sides to those of the traced image.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmface.utils.extras import optional_imports

with optional_imports():
    import onnx
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[np.float64]
#: IR version from which weights need not be inputs.
_MIN_IR = 4
#: Opset from which batch norms compute as in inference unless they say otherwise.
_MIN_OPSET = 7
#: Operators that compute every place of a map by the same rule, whatever its size.
_PLACE_BY_PLACE = (
    *('Abs', 'AveragePool', 'BatchNormalization', 'Cast', 'Clip', 'Conv', 'ConvTranspose'),
    *('DequantizeLinear', 'Dropout', 'Elu', 'Exp', 'GlobalAveragePool', 'HardSigmoid'),
    *('HardSwish', 'Identity', 'InstanceNormalization', 'LeakyRelu', 'MaxPool'),
    *('QuantizeLinear', 'Relu', 'Sigmoid', 'Softplus', 'Sqrt', 'Tanh'),
)
_PAIRWISE = ('Add', 'Sub', 'Mul', 'Div', 'PRelu')


def load_onnx(path: str | os.PathLike[str]) -> ModelProto:
    """Read an ONNX file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an ONNX file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no such file: {path}')
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf and onnx raise their own classes
        raise ValueError(f'{path} is not an ONNX file: {error}') from error
    if not model.graph.node:
        raise ValueError(f'{path} is not an ONNX file: it has no operators')
    return model


def repair(model: ModelProto) -> ModelProto:
    """Take the weights out of the inputs, and fold batch norms where a convolution is before them.

    The outputs stay the same up to rounding. Norms elsewhere stay in the graph.

    Args:
        model: Changed in place.

    Returns:
        The same model.
    """
    drop_weight_inputs(model)
    fold_batch_norms(model)
    return model


def drop_weight_inputs(model: ModelProto) -> int:
    """Remove the weights from the inputs of a graph.

    A weight that is an input too can be replaced in each run, so onnxruntime may neither fold it
    nor change its layout.

    Returns:
        The number of removed inputs.
    """
    graph = model.graph
    weights = {item.name for item in graph.initializer}
    listed = [value for value in graph.input if value.name in weights]
    for value in listed:
        graph.input.remove(value)
    if listed:
        model.ir_version = max(model.ir_version, _MIN_IR)
    return len(listed)


def fold_batch_norms(model: ModelProto) -> list[str]:
    """Fold every batch norm into the convolution, also a transposed one, directly before it.

    Args:
        model: Changed in place.

    Returns:
        Names of the norms that stay: nothing to fold them into, another reader between, weights
        that are not constant, or statistics of the batch.
    """
    graph = model.graph
    known = constants(graph)
    makers = {name: node for node in graph.node for name in node.output}
    users = Counter(_reads(graph))
    users.update(value.name for value in graph.output)
    left = []
    for norm in [node for node in graph.node if node.op_type == 'BatchNormalization']:
        conv = makers.get(norm.input[0])
        if (
            conv is None
            or conv.op_type not in ('Conv', 'ConvTranspose')
            or users[norm.input[0]] != 1
            or not _is_inference(model, norm)
            or any(name not in known for name in [*norm.input[1:5], *filter(None, conv.input[1:])])
        ):
            left.append(norm.name or norm.output[0])
            continue
        scale, shift, mean, var = (_array(known[name]) for name in norm.input[1:5])
        factor = scale / np.sqrt(var + number(norm, 'epsilon', 1e-5))
        weight = _array(known[conv.input[1]])
        has_bias = len(conv.input) > 2 and conv.input[2]
        bias = _array(known[conv.input[2]]) if has_bias else 0.0
        set_conv(
            model,
            conv,
            f'{norm.output[0]}.folded',
            weight * _per_output(factor, weight.shape, conv),
            (bias - mean) * factor + shift,
        )
        conv.output[0] = norm.output[0]
        makers[norm.output[0]] = conv
        known.update((item.name, item) for item in graph.initializer[-2:])
        graph.node.remove(norm)
    drop_unused(model)
    return left


def free_sides(model: ModelProto) -> str:
    """Let a network of maps take batches and images of any size, if its operators allow it.

    Sides must then be multiples of the network's largest stride. Declared sizes are removed from
    the input and from the outputs: onnxruntime says nothing about outputs that contradict them.

    Args:
        model: One input (B, 3, H, W) after ``drop_weight_inputs``. Changed in place if nothing
            fixes the sides.

    Returns:
        What fixes the sides, empty if nothing does.
    """
    graph = model.graph
    if len(graph.input) != 1:
        return f'it has {len(graph.input)} inputs'
    known = constants(graph)
    for node in graph.node:
        if not (node.output and node.output[0] in known) and not _any_size(node, known):
            return f'its operator {node.op_type} {node.name or node.output[0]!r}'
    for number_, value in enumerate([*graph.input, *graph.output]):
        sides = value.type.tensor_type.shape.dim
        if len(sides) != 4:
            return f'{value.name} has {len(sides)} dimensions'
        for axis, name in ((0, 'batch'), (2, 'height'), (3, 'width')):
            # Only the input's are tied together: maps have other strides.
            sides[axis].dim_param = name if axis == 0 or not number_ else f'{value.name}_{name}'
    del graph.value_info[:]
    return ''


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Return the constant values of a graph: weights, constant nodes, and copies of those."""
    known = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type == 'Constant' and node.attribute[0].name == 'value':
            known[node.output[0]] = node.attribute[0].t
        elif node.op_type == 'Identity' and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]]
    return known


def number(node: NodeProto, name: str, default: float = 0) -> float:
    """Return an attribute that is one number."""
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def set_conv(
    model: ModelProto, conv: NodeProto, name: str, weight: Array, bias: Array | None = None
) -> None:
    """Give a convolution weights of its own: exporters let convolutions share equal ones.

    Args:
        model: The model of the convolution.
        conv: The convolution. The type of its present weights is kept.
        name: The new tensors are called NAME.weight and NAME.bias.
        weight: New weights.
        bias: New bias; ``None`` keeps the present one.
    """
    kind = numpy_helper.to_array(constants(model.graph)[conv.input[1]]).dtype
    for place, value in enumerate([weight] if bias is None else [weight, bias], start=1):
        key = f'{name}.{"bias" if place == 2 else "weight"}'
        model.graph.initializer.append(numpy_helper.from_array(value.astype(kind), key))
        if place < len(conv.input):
            conv.input[place] = key
        else:
            conv.input.append(key)


def drop_unused(model: ModelProto) -> None:
    """Remove weights that no node reads."""
    used = set(_reads(model.graph))
    used.update(value.name for value in model.graph.output)
    for item in [item for item in model.graph.initializer if item.name not in used]:
        model.graph.initializer.remove(item)


def _is_inference(model: ModelProto, norm: NodeProto) -> bool:
    """Return whether a batch norm uses its stored statistics, one for each channel."""
    opset = max((o.version for o in model.opset_import if o.domain in ('', 'ai.onnx')), default=0)
    extra = any(norm.output[1:]) or number(norm, 'training_mode') or not number(norm, 'spatial', 1)
    return opset >= _MIN_OPSET and not extra


def _any_size(node: NodeProto, known: dict[str, TensorProto]) -> bool:
    """Return whether an operator takes maps of any size, one image like another."""
    kind = node.op_type
    others = [known[name] for name in node.input if name in known]
    if kind == 'Concat':
        return number(node, 'axis') == 1 and not others
    if kind in ('Resize', 'Upsample'):
        names = [*node.input, '', '', ''][1:4] if kind == 'Resize' else ['', node.input[1], '']
        scales, sizes = known.get(names[1]), known.get(names[2])
        # Old exporters write empty scales beside sizes.
        return scales is not None and list(scales.dims) == [4] and sizes is None and not names[2]
    if kind == 'ConvTranspose' and any(item.name == 'output_shape' for item in node.attribute):
        return False
    if kind in _PAIRWISE:
        # A constant with rows or columns fits one size only.
        return all(np.prod(item.dims[-2:], dtype=int) == 1 for item in others)
    return kind in _PLACE_BY_PLACE


def _reads(graph: GraphProto) -> Iterator[str]:
    """Yield the values that nodes read, also those inside of branches and loops."""
    for node in graph.node:
        yield from node.input
        for item in node.attribute:
            for inner in [item.g, *item.graphs]:
                yield from _reads(inner)
                yield from (value.name for value in inner.output)


def _array(tensor: TensorProto) -> Array:
    return numpy_helper.to_array(tensor).astype(np.float64)


def _per_output(factor: Array, shape: tuple[int, ...], conv: NodeProto) -> Array:
    """Reshape a factor per output channel to match the weights of a convolution."""
    ones = (1,) * (len(shape) - 2)
    if conv.op_type == 'Conv':
        return factor.reshape(-1, 1, *ones)
    # (in, out / groups, k, k): the inputs of each group feed the outputs of that group.
    groups = int(number(conv, 'group', 1))
    return factor.reshape(groups, -1).repeat(shape[0] // groups, axis=0).reshape(*shape[:2], *ones)
