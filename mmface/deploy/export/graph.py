# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Transform an exported graph: fold norms, add the normalization, convert to half precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mmface.utils.extras import optional_imports
from mmface.weights.onnx_repair import drop_unused, fold_batch_norms, number, set_conv

with optional_imports():
    import onnx
    from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
Array = NDArray[np.float64]


def rename(nodes: Iterable[NodeProto], old: str, new: str, readers_only: bool = False) -> None:
    """Rename a value, everywhere or only for the nodes that read it."""
    for node in nodes:
        for names in [node.input] if readers_only else [node.input, node.output]:
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new


def fold_shapes(model: ModelProto) -> None:
    """Replace shape computations of group norms in static files by constants."""
    while True:
        inferred = onnx.shape_inference.infer_shapes(model).graph
        shapes = {}
        for value in [*inferred.input, *inferred.value_info]:
            sides = value.type.tensor_type.shape.dim
            if sides and all(side.HasField('dim_value') for side in sides):
                shapes[value.name] = [side.dim_value for side in sides]
        known = [n for n in model.graph.node if n.op_type == 'Shape' and n.input[0] in shapes]
        if not known:
            return
        for node in known:
            value = numpy_helper.from_array(np.array(shapes[node.input[0]]), node.output[0])
            model.graph.initializer.append(value)
            model.graph.node.remove(node)


def drop_identities(model: ModelProto) -> None:
    """Remove the copies that the exporter makes of equal weights."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    for node in [node for node in graph.node if node.op_type == 'Identity']:
        if node.output[0] not in outputs:
            rename(graph.node, node.output[0], node.input[0], readers_only=True)
            graph.node.remove(node)


def fold_all_batch_norms(model: ModelProto) -> None:
    """Fold every batch norm into the convolution before it.

    The exporter does this for convolutions, but not for transposed convolutions.

    Raises:
        ValueError: A batch norm does not follow a convolution, or is not its only reader.
    """
    left = fold_batch_norms(model)
    if left:
        raise ValueError(f'the batch norm {left[0]} does not follow a convolution')


def normalise_inside(model: ModelProto, mean: Sequence[float], std: Sequence[float]) -> str:
    """Make the graph subtract the mean and divide by std itself.

    The division goes into the weights of the first convolution. The mean cannot go into its bias:
    the convolution pads with zeros after the normalization, and before it this padding would have
    to be the mean. So the mean is subtracted in front, which is exact. Code that pads the image
    itself must pad with the mean. For most models the mean is not an integer, so the input stays
    float32.

    Args:
        model: Changed in place; its first input is the image.
        mean: Mean of each channel.
        std: Standard deviation of each channel.

    Returns:
        A description of the changes.
    """
    graph = model.graph
    name = graph.input[0].name
    users = [node for node in graph.node if name in node.input]
    done = []
    scale = 1 / np.asarray(std, np.float64)
    if np.any(scale != 1):
        if all(node.op_type == 'Conv' and number(node, 'group', 1) == 1 for node in users):
            weights = {item.name: item for item in graph.initializer}
            for node in users:
                weight = (
                    numpy_helper.to_array(weights[node.input[1]]).astype(np.float64)
                    * scale[None, :, None, None]
                )
                set_conv(model, node, f'{node.name}.scaled', weight)
            done.append('std in the weights of the first convolution')
        else:
            _insert(model, 'Mul', name, 'input.scale', scale)
            done.append('multiplication by 1 / std in front')
    if np.any(mean):
        # Insert it last, because it must be the first node.
        _insert(model, 'Sub', name, 'input.mean', np.asarray(mean, np.float64))
        done.insert(0, 'subtraction of the mean in front')
    drop_unused(model)
    return ', '.join(done) or 'nothing to do: mean 0, std 1'


def to_half(model: ModelProto) -> None:
    """Compute in half precision; inputs and outputs stay float32.

    Args:
        model: Changed in place.

    Raises:
        ValueError: A weight is too large for half precision.
    """
    graph = model.graph
    # The scales of Resize are float32 in every precision.
    kept = {name for node in graph.node if node.op_type == 'Resize' for name in node.input[1:]}
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _halve(tensor)
    for node in graph.node:
        if kept.intersection(node.output):
            continue
        for item in node.attribute:
            if item.type == onnx.AttributeProto.TENSOR:
                _halve(item.t)
            elif node.op_type == 'Cast' and item.name == 'to' and item.i == FLOAT:
                item.i = HALF
    del graph.value_info[:]
    nodes = list(graph.node)
    del graph.node[:]
    for value in graph.input:
        if value.type.tensor_type.elem_type == FLOAT:
            rename(nodes, value.name, f'{value.name}.half', readers_only=True)
            graph.node.append(_cast(value.name, f'{value.name}.half', HALF))
    casts = []
    for value in graph.output:
        if value.type.tensor_type.elem_type == FLOAT:
            rename(nodes, value.name, f'{value.name}.half')
            casts.append(_cast(f'{value.name}.half', value.name, FLOAT))
    graph.node.extend([*nodes, *casts])


def _insert(model: ModelProto, kind: str, name: str, key: str, value: Array) -> None:
    """Insert an operation with one number per channel after the input."""
    graph = model.graph
    array = value.astype(np.float32).reshape(1, -1, 1, 1)
    graph.initializer.append(numpy_helper.from_array(array, key))
    rename(graph.node, name, f'{key}.out', readers_only=True)
    graph.node.insert(0, helper.make_node(kind, [name, key], [f'{key}.out'], name=f'{key}.node'))


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node('Cast', [source], [target], name=f'{target}.cast', to=kind)


def _halve(tensor: TensorProto) -> None:
    if tensor.data_type == FLOAT:
        with np.errstate(over='ignore'):
            half = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(
                f'the weights {tensor.name} have values beyond 65504, the largest number of half '
                'precision: export in float32'
            )
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
