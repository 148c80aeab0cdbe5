# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read the convolutions and group norms of an ncnn network.

ncnn stores a network in two files. The text file (.param) lists the layers in execution order:
type, name, numbers of inputs and outputs, their names, and parameters with numbers as keys. The
other (.bin) holds the weights of the layers one after the other, without names. Nothing in them
is executed. Source: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmface.weights.onnx_convs import ConvWeights, GroupNormWeights, OnnxNetwork

MAGIC = '7767517'
#: Tags before the weights of a convolution. Other values mean integers or a table of values.
_FLOAT32, _FLOAT16 = 0, 0x01306B47
#: Layers of detectors that have no weights.
_WITHOUT_WEIGHTS = frozenset(
    (
        'Input', 'Split', 'ReLU', 'Clip', 'Sigmoid', 'Interp', 'BinaryOp', 'Eltwise', 'Concat',
        'Permute', 'Reshape', 'Pooling', 'Noop', 'Softmax', 'Flatten', 'Crop', 'Slice', 'Padding',
    )
)  # fmt: skip
_MULTIPLY = 2  # operation of a BinaryOp
_CLIP = 3  # activation of a convolution
_MAX_TEXT = 4 << 20  # bytes; published networks have 10 kB
_LAYER = re.compile(r'(\w+) +(\S+) +(\d{1,4}) +(\d{1,4})((?: +\S+)*) *')
_INTEGER = re.compile(r'-?\d{1,9}')


class _Layer(NamedTuple):
    kind: str
    name: str
    values: dict[str, str]

    def integer(self, key: int, default: int = 0) -> int:
        """Return a parameter that is a whole number."""
        text = self.values.get(str(key))
        if text is None:
            return default
        if not _INTEGER.fullmatch(text):
            raise ValueError(f'layer {self.name}: parameter {key}={text} is not an integer')
        return int(text)

    def number(self, key: int, default: float) -> float:
        """Return a parameter that is a finite number."""
        text = self.values.get(str(key), str(default))
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise ValueError(f'layer {self.name}: parameter {key}={text} is not a number')
        return value


class _Weights:
    """The binary file, read from its beginning to its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, count: int, dtype: str, layer: _Layer) -> np.ndarray:
        """Return the next values as float32."""
        size = count * np.dtype(dtype).itemsize
        if not 0 < size <= len(self.data) - self.place:
            raise ValueError(
                f'layer {layer.name} needs {size} bytes of weights, {len(self.data) - self.place} '
                'are left: the two files do not belong together, or one is incomplete'
            )
        values = np.frombuffer(self.data, dtype, count, self.place).astype(np.float32)
        self.place += size + -size % 4
        if not np.isfinite(values).all():
            raise ValueError(f'layer {layer.name} has weights that are not finite')
        return values

    def take_tagged(self, count: int, layer: _Layer) -> np.ndarray:
        """Return the next values, before which their type is stored."""
        if len(self.data) - self.place < 4:
            raise ValueError(f'the weights end before layer {layer.name}')
        tag = int.from_bytes(self.data[self.place : self.place + 4], 'little')
        if tag not in (_FLOAT32, _FLOAT16):
            raise ValueError(
                f'the weights of layer {layer.name} have the type {tag:#010x}: only float32 and '
                'float16 can be read, no quantised networks'
            )
        self.place += 4
        return self.take(count, '<f2' if tag == _FLOAT16 else '<f4', layer)


def read_ncnn(path: str | Path) -> OnnxNetwork:
    """Read the weights of an ncnn network.

    Args:
        path: The ``.param`` or the ``.bin`` file. The other one has the same name beside it.

    Returns:
        Convolutions, group norms and factors in execution order.

    Raises:
        FileNotFoundError: One of the files does not exist.
        ValueError: The files are not an ncnn network of convolutions and group norms with weights
            in float32 or float16, do not belong together, or are damaged.
    """
    text_file, weight_file = Path(path).with_suffix('.param'), Path(path).with_suffix('.bin')
    for file in (text_file, weight_file):
        if not file.is_file():
            raise FileNotFoundError(f'an ncnn network has two files; {file} does not exist')
    try:
        layers = _read_text(text_file)
        return _read_layers(layers, _Weights(weight_file.read_bytes()))
    except ValueError as error:
        raise ValueError(f'{text_file} with {weight_file.name}: {error}') from error


def _read_text(file: Path) -> list[_Layer]:
    """Read the list of layers."""
    if file.stat().st_size > _MAX_TEXT:
        raise ValueError(f'the list of layers is larger than {_MAX_TEXT >> 20} MiB')
    lines = file.read_bytes().decode('utf-8', 'replace').splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise ValueError(f'not an ncnn text file: its first line is not {MAGIC}')
    layers = []
    for number, line in enumerate(lines[2:], 3):
        if not line.strip():
            continue
        match = _LAYER.fullmatch(line)
        if match is None:
            raise ValueError(f'line {number} is not a layer: {line[:60]!r}')
        words = match[5].split()
        blobs = int(match[3]) + int(match[4])
        pairs = [word.partition('=') for word in words[blobs:]]
        if len(words) < blobs or not all(key and value for key, _, value in pairs):
            raise ValueError(f'line {number} is not a layer: {line[:60]!r}')
        layers.append(_Layer(match[1], match[2], {key: value for key, _, value in pairs}))
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or counts[0] != str(len(layers)):
        raise ValueError(f'line 2 announces {counts[:1]} layers, the file has {len(layers)}')
    return layers


def _read_layers(layers: list[_Layer], weights: _Weights) -> OnnxNetwork:
    """Read the weights of all layers."""
    convs: list[ConvWeights] = []
    norms: list[GroupNormWeights] = []
    factors: list[float] = []
    clipped = False
    for layer in layers:
        if layer.kind in ('Convolution', 'ConvolutionDepthWise'):
            convs.append(_convolution(layer, weights))
            clipped |= layer.integer(9) == _CLIP
        elif layer.kind == 'GroupNorm':
            norms.append(_group_norm(layer, weights))
        elif layer.kind not in _WITHOUT_WEIGHTS:
            raise ValueError(f'layer {layer.name} is a {layer.kind}, which cannot be read')
        clipped |= layer.kind == 'Clip'
        if layer.kind == 'BinaryOp' and layer.integer(0) == _MULTIPLY and layer.integer(1):
            factors.append(layer.number(2, 0.0))
    if weights.place < len(weights.data):
        raise ValueError(
            f'{len(weights.data) - weights.place} bytes of weights belong to no layer: the two '
            'files do not belong together'
        )
    return OnnxNetwork(convs, factors, clipped=clipped, group_norms=norms)


def _convolution(layer: _Layer, weights: _Weights) -> ConvWeights:
    """Read (out, in / groups, height, width) and the bias."""
    if layer.integer(8) or layer.integer(19):
        raise ValueError(f'layer {layer.name} has integer weights, or weights of another layer')
    channels, width, size = layer.integer(0), layer.integer(1), layer.integer(6)
    height = layer.integer(11, width)
    if min(channels, width, height, size) < 1 or size % (channels * width * height):
        raise ValueError(
            f'layer {layer.name}: {size} weights for {channels} kernels of {height}x{width}'
        )
    weight = weights.take_tagged(size, layer).reshape(channels, -1, height, width)
    bias = weights.take(channels, '<f4', layer) if layer.integer(5) else None
    return ConvWeights(weight, bias)


def _group_norm(layer: _Layer, weights: _Weights) -> GroupNormWeights:
    groups, channels = layer.integer(0, 1), layer.integer(1, 1)
    if min(groups, channels) < 1 or channels % groups or not layer.integer(3, 1):
        raise ValueError(
            f'layer {layer.name}: expected a group norm with weights, found {groups} groups of '
            f'{channels} channels'
        )
    weight, bias = (weights.take(channels, '<f4', layer) for _ in range(2))
    return GroupNormWeights(groups, layer.number(2, 1e-3), weight, bias)
