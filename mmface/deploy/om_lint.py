# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find parts of an ONNX graph that Ascend's ATC is known to reject or to run badly.

This is a lint: it reads the graph and compares it with the vendor's documentation. Nothing is
converted. Only ATC can tell whether the conversion works.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mmface.utils.extras import optional_imports

with optional_imports():
    import onnx
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto


class CannLimits(NamedTuple):
    """What a version of CANN supports.

    Attributes:
        ir: Highest IR version, which is that of the ONNX release CANN is built on.
        opset: Lowest and highest opset.
    """

    ir: int
    opset: tuple[int, int]


#: From the vendor's documentation: CANN 5.0.4 and 6.0.1 are built on ONNX 1.8, 7.0 to 9.1 on 1.12.
CANN = {
    '5.0': CannLimits(7, (9, 13)),
    '6.0': CannLimits(7, (9, 13)),
    '7.0': CannLimits(8, (9, 17)),
    '8.0': CannLimits(8, (9, 17)),
    '9.0': CannLimits(8, (9, 17)),
}
DEFAULT_CANN = '8.0'

_HOST = 'export a layout without it and do that step on the host, as the runtime does'
_MASK = 'multiply by a numeric mask, or select on the host'
#: Operators that an OM cannot use well, with the reason and the remedy.
FORBIDDEN = {
    'NonMaxSuppression': ('the number of its results depends on the data', _HOST),
    'NonZero': ('the number of its results depends on the data', _MASK),
    'Compress': ('the number of its results depends on the data', _MASK),
    'Unique': ('the number of its results depends on the data', _HOST),
    'Where': ('selection by a mask runs slowly or not at all', _MASK),
    'Loop': ('control flow is not compiled', 'unroll it before exporting'),
    'Scan': ('control flow is not compiled', 'unroll it before exporting'),
    'If': ('control flow is not compiled', 'export with a fixed size, which removes it'),
    'Range': ('its length is computed', 'export with a fixed size, which makes it constant'),
    'BatchNormalization': ('it is not folded', 'fold it into the convolution before it'),
    'QuantizeLinear': (
        "ATC does not read files of onnxruntime's quantisation",
        'give ATC the float file and quantise with the AMCT of CANN',
    ),
    'DequantizeLinear': (
        "ATC does not read files of onnxruntime's quantisation",
        'give ATC the float file and quantise with the AMCT of CANN',
    ),
}
#: Inputs of operators that must be constants, known before the graph runs.
_SHAPE_INPUTS = {
    'Reshape': (1,),
    'Expand': (1,),
    'Tile': (1,),
    'Slice': (1, 2, 3, 4),
    'Pad': (1,),
    'Resize': (2, 3),
    'Upsample': (1,),
    'ConstantOfShape': (0,),
    'TopK': (1,),
    'Unsqueeze': (1,),
    'Squeeze': (1,),
}
_SEPARATORS = ':;, \t'  # of ATC's --input_shape
_TYPES = {TensorProto.DOUBLE: 'float64', TensorProto.INT64: 'int64'}


class Finding(NamedTuple):
    """One thing to change.

    Attributes:
        where: Node, input or output, or '' for the file.
        problem: What is wrong.
        remedy: What to do.
    """

    where: str
    problem: str
    remedy: str


def lint(model: ModelProto, cann: str = DEFAULT_CANN) -> list[Finding]:
    """Find what ATC is known to reject or to run badly.

    Args:
        model: An ONNX model with its weights.
        cann: Version of CANN, a key of ``CANN``.

    Returns:
        The findings, most general first; empty if there are none.

    Raises:
        ValueError: The version is unknown.
    """
    if cann not in CANN:
        raise ValueError(f'CANN {cann}: expected one of {", ".join(CANN)}')
    return [
        *_validity(model),
        *_versions(model, CANN[cann], cann),
        *_ports(model),
        *_operators(model),
        *_computed_shapes(model),
        *_types(model),
    ]


def _validity(model: ModelProto) -> Iterator[Finding]:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        yield Finding('', f'not a valid ONNX graph: {reason}', 'export it again')


def _versions(model: ModelProto, limits: CannLimits, cann: str) -> Iterator[Finding]:
    if model.ir_version > limits.ir:
        yield Finding(
            '',
            f'IR version {model.ir_version}: CANN {cann} reads up to {limits.ir}',
            'export with a lower opset (11 has IR version 6, 13 has 7, 17 has 8)',
        )
    low, high = limits.opset
    for item in model.opset_import:
        if item.domain not in ('', 'ai.onnx'):
            yield Finding(
                '',
                f'operators of the domain {item.domain!r}',
                'export from torch again: ATC supports only the operators of ONNX',
            )
        elif not low <= item.version <= high:
            yield Finding(
                '',
                f'opset {item.version}: CANN {cann} reads {low} to {high}',
                f'export with opset {min(max(11, low), high)}',
            )


def _ports(model: ModelProto) -> Iterator[Finding]:
    graph = model.graph
    weights = {item.name for item in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    seen: set[str] = set()
    for kind, values in (('input', inputs), ('output', graph.output)):
        for value in values:
            where = f'{kind} {value.name!r}'
            if not value.name:
                yield Finding(where, 'it has no name', 'name inputs and outputs when exporting')
            elif value.name in seen:
                yield Finding(where, 'the name occurs twice', 'give each a different name')
            elif any(mark in value.name for mark in _SEPARATORS):
                yield Finding(
                    where,
                    'the name has a separator of --input_shape (ATC)',
                    'use letters and digits',
                )
            seen.add(value.name)
            sides = value.type.tensor_type.shape.dim
            free = [side.dim_param or '?' for side in sides if side.dim_value < 1]
            if free or not sides:
                yield Finding(
                    where,
                    f'dynamic sides: {", ".join(free) or "no shape"}',
                    'export with a fixed size and batch, one file for each size',
                )
            if value.type.tensor_type.elem_type in _TYPES:
                yield Finding(
                    where,
                    f'its type is {_TYPES[value.type.tensor_type.elem_type]}',
                    'use float32 (or int32)',
                )


def _operators(model: ModelProto) -> Iterator[Finding]:
    found: dict[str, list[str]] = {}
    for node in _all_nodes(model.graph.node):
        if node.op_type in FORBIDDEN:
            found.setdefault(node.op_type, []).append(node.name or node.output[0])
    for kind, names in found.items():
        problem, remedy = FORBIDDEN[kind]
        yield Finding(f'{kind} {_some(names)}', problem, remedy)


def _computed_shapes(model: ModelProto) -> Iterator[Finding]:
    """Find operators that read shapes and compute with them."""
    constant = {item.name for item in model.graph.initializer} | {''}
    readers, users = [], []
    for node in model.graph.node:
        if all(name in constant for name in node.input) and node.op_type != 'Shape':
            constant.update(node.output)  # Constant, and nodes that depend only on constants
        if node.op_type == 'Shape':
            readers.append(node.name or node.output[0])
        places = _SHAPE_INPUTS.get(node.op_type, ())
        if any(node.input[k] not in constant for k in places if k < len(node.input)):
            users.append(f'{node.op_type} {node.name or node.output[0]}')
    remedy = 'export with a fixed size: shapes are then constants'
    if readers:
        yield Finding(f'Shape {_some(readers)}', 'the graph reads shapes while it runs', remedy)
    if users:
        yield Finding(_some(users), 'a shape is computed while the graph runs', remedy)


def _types(model: ModelProto) -> Iterator[Finding]:
    graph = model.graph
    double = [item.name for item in graph.initializer if item.data_type == TensorProto.DOUBLE]
    ports = {value.name for value in [*graph.input, *graph.output]}
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    values: list[ValueInfoProto] = [value for value in inferred if value.name not in ports]
    double += [v.name for v in values if v.type.tensor_type.elem_type == TensorProto.DOUBLE]
    if double:
        yield Finding(
            f'tensors {_some(double)}',
            'float64 is computed at a fraction of the speed, or not at all',
            'convert model and constants to float32 before exporting',
        )


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Iterate over nodes, including those of nested graphs."""
    for node in nodes:
        yield node
        for item in node.attribute:
            if item.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(item.g.node)


def _some(names: list[str]) -> str:
    more = f' and {len(names) - 2} more' if len(names) > 2 else ''
    return ', '.join(names[:2]) + more
