# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Compare an ONNX file with the torch network that it was exported from."""

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

#: Largest difference that counts as rounding: this value, plus this fraction of the largest value
#: of the output, because sums are rounded.
TOLERANCE = 1e-4
#: The same for half precision, which rounds every value to 1 / 2048 of itself in each layer.
HALF_TOLERANCE = 0.05


class Difference(NamedTuple):
    """How much an output differs from torch's output.

    Attributes:
        name: Name of the output.
        largest: Largest absolute difference.
        excess: Largest difference in units of the tolerance. Above 1, the export fails.
    """

    name: str
    largest: float
    excess: float


def check_images(
    paths: Sequence[str | Path], size: tuple[int, int], count: int
) -> list[NDArray[np.uint8]]:
    """Return images of the input's size: stretched files, or drawn images if there are no paths.

    Args:
        paths: Image files.
        size: Height and width.
        count: Batch size. This many images are drawn; files are repeated to fill whole batches.

    Returns:
        BGR images (H, W, 3).

    Raises:
        FileNotFoundError: An image file does not exist.
        ValueError: A file is not an image.
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
    """Draw blurred spots of several sizes, so that maps of all strides differ from cell to cell.

    Args:
        generator: Source of the random colours.
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
        network: Returns a tuple of the same outputs.
        batches: For each batch, the input of the file and the input of the network.
        tolerance: See ``TOLERANCE``.

    Returns:
        The difference of each output, the largest over all batches.

    Raises:
        ValueError: The file has other outputs, or other shapes.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = ort.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    worst = {name: Difference(name, 0.0, 0.0) for name in names}
    for fed, same in batches:
        found = session.run(None, {session.get_inputs()[0].name: fed})
        with torch.no_grad():
            wanted = [value.numpy() for value in network(same)]
        if [value.shape for value in found] != [value.shape for value in wanted]:
            raise ValueError(
                f'the ONNX file outputs the shapes {[value.shape for value in found]}, torch '
                f'{[value.shape for value in wanted]}'
            )
        for name, value, truth in zip(names, found, wanted, strict=True):
            gap = np.abs(value - truth)
            # NaN differs from everything.
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
    """Stack BGR images (H, W, 3) to (B, 3, H, W), values 0 to 255."""
    batch = np.stack(images)
    return np.ascontiguousarray((batch[..., ::-1] if rgb else batch).transpose(0, 3, 1, 2), 'f4')
