# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""From a torch module to an ONNX graph."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmface.deploy.export.graph import rename
from mmface.utils.extras import optional_imports

with optional_imports():
    import onnx

#: Opsets that are offered. ATC reads 11 everywhere, 13 since CANN 5, 17 since CANN 7; 17 is the
#: last whose IR version (8) it is known to read.
OPSETS = (11, 13, 17)


def trace(
    network: nn.Module,
    inputs: Sequence[Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
    dynamic_axes: dict[str, dict[int, str]] | None = None,
) -> onnx.ModelProto:
    """Export a network.

    Args:
        network: In evaluation mode. All images it is fed have sides that are multiples of 32.
        inputs: Example inputs; the result is good for their sizes, but for ``dynamic_axes``.
        input_names: Names of the inputs.
        output_names: Names of the outputs.
        opset: One of ``OPSETS``.
        dynamic_axes: Axes of inputs and outputs that may have another size, with their names.

    Raises:
        ValueError: If the opset is another one.
    """
    if opset not in OPSETS:
        raise ValueError(f'opset {opset}: expected one of {", ".join(map(str, OPSETS))}')
    buffer: Any = io.BytesIO()  # not in the signature of every version
    # torch takes no names that are numbers, as Star-Clouds' are.
    safe = {name: f'output_{name}' for name in output_names}
    axes = {safe.get(name, name): free for name, free in (dynamic_axes or {}).items()}
    # The exporter by TorchScript, though deprecated. Asked for opset 11 or 13, torch 2.13's newer
    # one writes 18, as ONNX's version converter has no way down for some operators, and IR
    # version 10 in any case; ATC reads up to 8. This one writes each opset directly with the IR
    # version that belongs to it, folds batch norms, and does not need onnxscript. Nothing here
    # depends on it but this call and the ``symbolic`` functions.
    with torch.no_grad(), _doubling(), _silence():
        torch.onnx.export(
            network,
            tuple(inputs),
            buffer,
            input_names=list(input_names),
            output_names=list(safe.values()),
            opset_version=opset,
            dynamic_axes=axes,
            do_constant_folding=True,
            dynamo=False,
        )
        examples = network(*inputs)
    model = onnx.load_from_string(buffer.getvalue())
    # The exporter knows less about the outputs' shapes than we do.
    for (name, exported), value, example in zip(
        safe.items(), model.graph.output, examples, strict=True
    ):
        rename(model.graph.node, exported, name)
        free = axes.get(exported, {})
        shape = [free.get(axis, side) for axis, side in enumerate(example.shape)]
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(onnx.helper.make_tensor_value_info(name, kind, shape))
    return model


@contextmanager
def _doubling() -> Iterator[None]:
    """Let necks that enlarge a map to the size of the next finer one say 'twice' instead.

    It is the same for sides that are multiples of 32, and the graph then neither reads shapes nor
    computes with them, which many converters do not take.
    """
    original = F.interpolate

    def interpolate(x: Tensor, size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        if size is None or args or kwargs.get('mode', 'nearest') != 'nearest':
            return original(x, size, *args, **kwargs)
        if [int(side) for side in size] != [2 * int(side) for side in x.shape[-2:]]:
            raise ValueError(
                f'a map of {tuple(map(int, x.shape[-2:]))} is enlarged to '
                f'{tuple(map(int, size))}, not to twice its size: such networks are not exported'
            )
        return original(x, scale_factor=2.0, mode='nearest')

    setattr(F, 'interpolate', interpolate)  # noqa: B010  a plain assignment has another type
    try:
        yield
    finally:
        setattr(F, 'interpolate', original)  # noqa: B010


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's notes from users, who cannot do anything about them."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
