# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Compare an ONNX file with the torch network it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmface.utils.extras import optional_imports

with optional_imports():
    import onnxruntime as ort

#: Largest difference that is taken for rounding: this much, plus this share of the largest value
#: of the output, as sums are rounded.
TOLERANCE = 1e-4
#: Likewise in half precision, which rounds every value to 1 / 2048 of itself, layer by layer.
HALF_TOLERANCE = 0.05


class Difference(NamedTuple):
    """How far an output is from torch's.

    Attributes:
        name: The output.
        largest: Largest absolute difference.
        excess: Largest difference in units of the tolerance; above 1 the file is refused.
    """

    name: str
    largest: float
    excess: float


def check_images(
    paths: Sequence[str | Path], size: tuple[int, int], count: int
) -> list[NDArray[np.uint8]]:
    """Give images of the input's size, stretched; drawn ones if there are no paths.

    Args:
        paths: Image files.
        size: Height and width.
        count: Images of a batch: so many are drawn, and files are repeated to whole batches.

    Returns:
        BGR images (H, W, 3).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file is no image.
    """
    height, width = size
    if not paths:
        return [_draw(np.random.default_rng(k), size) for k in range(count)]
    images = []
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f'images: {path} does not exist')
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f'images: {path} is not an image that OpenCV can read')
        images.append(cv2.resize(image, (width, height)))
    total = -(-len(images) // count) * count
    return [images[k % len(images)] for k in range(total)]


def _draw(generator: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw soft spots of several sizes, so that maps of all strides differ from cell to cell.

    Args:
        generator: Draws the colours.
        size: Height and width.
    """
    total = np.zeros((*size, 3), np.float32)
    for side in (8, 32, 128):
        grid = generator.uniform(0, 255 / 3, (size[0] // side + 2, size[1] // side + 2, 3))
        total += cv2.resize(grid.astype(np.float32), size[::-1])
    return total.astype(np.uint8)


def compare(
    path: str | Path,
    network: nn.Module,
    batches: Sequence[tuple[NDArray[np.float32], torch.Tensor]],
    tolerance: float,
) -> list[Difference]:
    """Run a file and its network on the same images.

    Args:
        path: ONNX file.
        network: Gives a tuple of the same outputs.
        batches: Of each batch, what the file is fed and what the network is fed.
        tolerance: See ``TOLERANCE``.

    Returns:
        The differences of each output, the largest of all batches.

    Raises:
        ValueError: If the file has other outputs, or other shapes.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors
    session = ort.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    worst = {name: Difference(name, 0.0, 0.0) for name in names}
    for fed, same in batches:
        found = session.run(None, {session.get_inputs()[0].name: fed})
        with torch.no_grad():
            wanted = [value.numpy() for value in network(same)]
        if [value.shape for value in found] != [value.shape for value in wanted]:
            raise ValueError(
                f'the ONNX file gives the shapes {[value.shape for value in found]}, torch '
                f'{[value.shape for value in wanted]}'
            )
        for name, value, truth in zip(names, found, wanted, strict=True):
            gap = np.abs(value - truth)
            # What is no number differs from everything.
            gap = np.where(np.isfinite(gap), gap, np.inf)
            largest = np.abs(truth[np.isfinite(truth)]).max(initial=0)
            excess = gap / (tolerance * (1 + largest))
            worst[name] = Difference(
                name,
                max(worst[name].largest, float(gap.max(initial=0))),
                max(worst[name].excess, float(excess.max(initial=0))),
            )
    return list(worst.values())


def to_input(images: list[NDArray[np.uint8]], rgb: bool) -> NDArray[np.float32]:
    """Stack BGR images (H, W, 3) to (B, 3, H, W), 0 to 255."""
    batch = np.stack(images)
    return np.ascontiguousarray((batch[..., ::-1] if rgb else batch).transpose(0, 3, 1, 2), 'f4')
