# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Quantise ONNX files to 8-bit integers with onnxruntime's static quantisation."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.deploy.runtime import FaceDetector
from mmface.deploy.runtime.foreign import Port, fixed_size
from mmface.deploy.runtime.session import open_session
from mmface.utils.extras import optional_imports
from mmface.utils.files import whole_file
from mmface.utils.find_images import find_images
from mmface.utils.images import read_image
from mmface.utils.progress import progress_bar
from mmface.weights.fetch import model_file
from mmface.weights.onnx_repair import free_sides, load_onnx, repair

with optional_imports():
    import onnx
    from onnx import ModelProto, version_converter
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

#: Instructions of x86 and ARM that multiply 8-bit integers. Without them int8 is not faster.
INT8_INSTRUCTIONS = ('amx_int8', 'avx512_vnni', 'avx_vnni', 'i8mm', 'asimddp')
#: Convolutions before this stride are the first ones that stay in float.
FIRST_STRIDE = 8
#: The first opset in which quantised weights can have a scale per channel.
MIN_OPSET = 13
_SECONDS = 20  # of the comparison of times
METHODS = {
    'minmax': CalibrationMethod.MinMax,
    'percentile': CalibrationMethod.Percentile,
    'entropy': CalibrationMethod.Entropy,
}


def quantize_onnx(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    calibration: str | os.PathLike[str],
    max_images: int = 100,
    method: str = 'percentile',
    keep_float: Sequence[str] = (),
    progress: bool = False,
    keep_edges: bool = True,
) -> list[str]:
    """Quantise a detector: weights to int8 per channel, activations to uint8, in QDQ form.

    The ranges of activations come from images, prepared as in the runtime. Inputs, outputs and
    metadata stay unchanged (float32 inputs and outputs).

    Args:
        source: ONNX file that ``FaceDetector`` can read, or a name of one.
        target: File to write. It is written completely or not at all.
        calibration: Folder of images, or of WIDER FACE (then ``val/images``).
        max_images: Number of images, spread evenly over the sorted names.
        method: How ranges are computed from values: a key of ``METHODS``.
        keep_float: Nodes whose name contains one of these strings stay float32.
        progress: Whether to show a progress bar.
        keep_edges: Whether the first convolutions and all from the last ones on stay float32. They
            have few weights, and most of the lost accuracy comes from them.

    Returns:
        Names of the nodes that stay float32 because of ``keep_float`` and ``keep_edges``.

    Raises:
        FileNotFoundError: The file, the folder or the images are missing.
        ValueError: The file is already quantised or unknown, its opset cannot be raised, or an
            option is wrong.
    """
    if method not in METHODS:
        raise ValueError(f'method {method!r}: expected one of {", ".join(METHODS)}')
    if max_images < 1:
        raise ValueError(f'{max_images} calibration images: expected at least 1')
    source = model_file(source)
    images = list(find_images(calibration).values())
    chosen = np.linspace(0, len(images) - 1, min(max_images, len(images))).round().astype(int)
    detector = FaceDetector(source)
    model = repair(load_onnx(source))
    if fixed_size(Port('', tuple(detector.session.get_inputs()[0].shape))) is None:
        free_sides(model)  # as the detector did
    model = _prepare(model, source)
    kept = [node.name for node in model.graph.node if any(part in node.name for part in keep_float)]
    unused = [part for part in keep_float if not any(part in name for name in kept)]
    if unused:
        raise ValueError(f'no node of {source} has a name that contains {", ".join(unused)}')
    if keep_edges:
        edges = first_convolutions(model) | output_layers(model)
        kept = [node.name for node in model.graph.node if node.name in {*kept, *edges}]
    if all(node.name in kept for node in model.graph.node if node.op_type == 'Conv'):
        remedy = (
            'keep_edges=False (--quantize-edges)' if keep_edges else 'fewer names in keep_float'
        )
        raise ValueError(f'{source}: all convolutions would stay in float32; use {remedy}')
    reader = _Images(detector, [images[index] for index in chosen], progress)
    with whole_file(target) as tmp, tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder, 'prepared.onnx')
        onnx.save(model, str(prepared))
        quantize_static(
            prepared,
            tmp,
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            calibrate_method=METHODS[method],
            # One image at a time, because all at once need gigabytes. Despite its name, the option
            # applies to every method.
            extra_options={'CalibStridedMinMax': 1},
        )
        result = onnx.load(str(tmp))
        onnx.helper.set_model_props(result, {item.key: item.value for item in model.metadata_props})
        onnx.save(result, str(tmp))
    return kept


def output_layers(model: ModelProto) -> set[str]:
    """Return the names of the nodes from the last convolution before each output on.

    Behind them lie the scores, which 8 bits would round to multiples of 1/255.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    found: set[str] = set()
    waiting = [output.name for output in model.graph.output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found.add(node.name)
        if node.op_type != 'Conv':
            waiting += node.input
    return found


def first_convolutions(model: ModelProto) -> set[str]:
    """Return the names of the convolutions whose outputs have a stride below ``FIRST_STRIDE``."""
    strides = {item.name: 1 for item in model.graph.input}
    found = set()
    for node in model.graph.node:  # sorted: inputs come before the nodes that use them
        before = max((strides.get(name, 0) for name in node.input), default=0)
        step = next((max(item.ints) for item in node.attribute if item.name == 'strides'), 1)
        stride = before if before >= FIRST_STRIDE else before * step
        strides.update(dict.fromkeys(node.output, stride))
        if node.op_type == 'Conv' and stride < FIRST_STRIDE:
            found.add(node.name)
    return found


def time_ratio(
    source: str | os.PathLike[str], target: str | os.PathLike[str], rounds: int = 15
) -> float:
    """Return the processor time of one file relative to that of another on this CPU.

    Args:
        source: The float32 file.
        target: The quantised file.
        rounds: How often both run, in turn, each with one thread and images of noise; less often
            if it takes longer than 20 seconds.

    Returns:
        Median over the rounds of the time of ``target`` divided by the time of ``source``.
    """
    cpu = ['CPUExecutionProvider']
    detector = FaceDetector(source, threads=1, providers=cpu)
    # Not a second detector: the second stage of CenterNet2 may have another name by now.
    sessions = [detector.session, open_session(model_file(target), cpu, 1)]
    sides = [side or 640 for side in detector.spec.size]
    noise = np.random.default_rng(0).integers(0, 256, (*sides, 3), np.uint8)
    pixels, placement = detector.place(noise)
    count = detector.batch_size or 1
    feed = {detector.input_name: detector.blob([pixels] * count, [placement] * count)}
    ratios: list[float] = []
    end = time.monotonic() + _SECONDS
    while len(ratios) < rounds and (len(ratios) < 3 or time.monotonic() < end):
        seconds = []
        for session in sessions:
            start = time.process_time()
            session.run(detector.output_names, feed)
            seconds.append(time.process_time() - start)
        ratios.append(seconds[1] / seconds[0])
    return float(np.median(ratios[1:]))  # the first run of a session allocates memory


def int8_instructions() -> list[str]:
    """Return which instructions of ``INT8_INSTRUCTIONS`` this CPU has (Linux only)."""
    path = Path('/proc/cpuinfo')
    words = set(path.read_text().split()) if path.is_file() else set()
    return [name for name in INT8_INSTRUCTIONS if name in words]


def _prepare(model: ModelProto, source: str | os.PathLike[str]) -> ModelProto:
    """Prepare a model for quantisation: raise the opset, name the nodes, remove empty inputs."""
    if any(node.op_type == 'QuantizeLinear' for node in model.graph.node):
        raise ValueError(f'{source} is already quantised: expected the float32 file')
    opset = next(item.version for item in model.opset_import if item.domain in ('', 'ai.onnx'))
    if opset < MIN_OPSET:
        props = {item.key: item.value for item in model.metadata_props}
        try:
            model = version_converter.convert_version(model, MIN_OPSET)
        except Exception as error:  # it raises RuntimeError and others
            raise ValueError(
                f'{source} has opset {opset}, which cannot be raised to {MIN_OPSET}: export it '
                f'with opset {MIN_OPSET}'
            ) from error
        onnx.helper.set_model_props(model, props)
        model.ir_version = max(model.ir_version, 7)  # the IR version of opset 13
    _drop_empty_regions(model)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f'{node.op_type}_{index}'
    return model


def _drop_empty_regions(model: ModelProto) -> None:
    """Remove empty inputs of ``Resize``, which have no value range.

    Before opset 13 the region is empty, and old exporters write empty scales beside the sizes.
    """
    tensors = {item.name: item for item in model.graph.initializer}
    constants = [node for node in model.graph.node if node.op_type == 'Constant']
    tensors |= {node.output[0]: node.attribute[0].t for node in constants}
    empty = {name for name, tensor in tensors.items() if list(tensor.dims) == [0]}
    for node in model.graph.node:
        if node.op_type == 'Resize':
            for index, name in enumerate(node.input):
                node.input[index] = '' if name in empty else name
    used = {name for node in model.graph.node for name in node.input}
    for node in constants:
        if node.output[0] in empty - used:
            model.graph.node.remove(node)


class _Images(CalibrationDataReader):
    """Feed images in the same way as the runtime."""

    def __init__(self, detector: FaceDetector, paths: Sequence[Path], progress: bool) -> None:
        self.detector = detector
        self.paths = paths
        self.bar = progress_bar(total=len(paths), unit='image', show=progress)
        self.range = iter(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Continue with the images from ``start_index`` to ``end_index``."""
        self.range = iter(self.paths[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next input, or ``None`` at the end."""
        path = next(self.range, None)
        if path is None:
            return None
        self.bar.update()
        pixels, placement = self.detector.place(read_image(path))
        # With a fixed batch, the same image fills the whole batch: padding would change the ranges.
        count = self.detector.batch_size or 1
        blob = self.detector.blob([pixels] * count, [placement] * count)
        return {self.detector.input_name: blob.copy()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the quantiser's output and its advice, which the exporter has already followed."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(previous)
