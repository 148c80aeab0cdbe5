# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert a torch module to an ONNX graph."""

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

#: Supported opsets. ATC reads 11 in all versions, 13 since CANN 5 and 17 since CANN 7. 17 is the
#: last opset whose IR version (8) ATC is known to read.
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
        network: A network in evaluation mode. All its input images have sides that are multiples
            of 32.
        inputs: Example inputs. The result is valid for their sizes, except for ``dynamic_axes``.
        input_names: Names of the inputs.
        output_names: Names of the outputs.
        opset: One of ``OPSETS``.
        dynamic_axes: Axes of inputs and outputs whose size may vary, with their names.

    Raises:
        ValueError: The opset is not supported.
    """
    if opset not in OPSETS:
        raise ValueError(f'opset {opset}: expected one of {", ".join(map(str, OPSETS))}')
    buffer: Any = io.BytesIO()  # not in the signature of every version
    # torch accepts no names that are numbers, but those of Star-Clouds are numbers.
    safe = {name: f'output_{name}' for name in output_names}
    axes = {safe.get(name, name): free for name, free in (dynamic_axes or {}).items()}
    # This uses the TorchScript exporter, although it is deprecated. If torch 2.13's newer exporter
    # is asked for opset 11 or 13, it writes 18, because ONNX's version converter cannot convert
    # some operators down. It always writes IR version 10, but ATC reads only up to 8. The
    # TorchScript exporter writes each opset directly with its own IR version, folds batch norms,
    # and does not need onnxscript. Only this call and the ``symbolic`` functions depend on it.
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
    # The exporter knows less about the shapes of the outputs than we do.
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
    """Make necks upsample by the factor 2 instead of to the size of the next finer map.

    The result is the same for sides that are multiples of 32. The graph then neither reads nor
    computes shapes, which many converters do not support.
    """
    original = F.interpolate

    def interpolate(x: Tensor, size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        if size is None or args or kwargs.get('mode', 'nearest') != 'nearest':
            return original(x, size, *args, **kwargs)
        if [int(side) for side in size] != [2 * int(side) for side in x.shape[-2:]]:
            raise ValueError(
                f'a map of {tuple(map(int, x.shape[-2:]))} is upsampled to '
                f'{tuple(map(int, size))}, not to twice its size: such networks are not supported'
            )
        return original(x, scale_factor=2.0, mode='nearest')

    setattr(F, 'interpolate', interpolate)  # noqa: B010  a plain assignment has another type
    try:
        yield
    finally:
        setattr(F, 'interpolate', original)  # noqa: B010


@contextmanager
def _silence() -> Iterator[None]:
    """Hide the exporter's notes, because users cannot do anything about them."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
