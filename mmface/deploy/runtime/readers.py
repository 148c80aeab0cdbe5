# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read candidates from each form of outputs. The threshold comes first, to decode only the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.deploy.layouts import LAYOUTS, channels, outputs_of
from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime.centerface import decode_cells
from mmface.deploy.runtime.detections import Detections
from mmface.deploy.runtime.letterbox import Placement

Array = NDArray[Any]
#: The outputs of an image by their kind and stride, see ``mmface.deploy.layouts.Output``.
Outputs = Mapping[tuple[str, int], Array]
#: Function that converts the outputs of an image, their specification and the height and width of
#: the input to faces in input pixels, before NMS.
Reader = Callable[[Outputs, ModelSpec, tuple[int, int]], Detections]


def read_outputs(
    outputs: Sequence[Array], spec: ModelSpec, placements: Sequence[Placement]
) -> list[dict[tuple[str, int], Array]]:
    """Check the outputs of a batch and split them into those of its images.

    Args:
        outputs: Arrays in the order of the file; the batch axis may be missing for one image.
        spec: Specification of the outputs.
        placements: One per image. All inputs have the same size.

    Raises:
        ValueError: The number or shapes of the outputs do not match the specification and the
            size of the input.
    """
    size = placements[0].size
    if any(placement.size != size for placement in placements):
        raise ValueError('the images of a batch need inputs of the same size')
    expected = outputs_of(spec)
    if len(outputs) != len(expected):
        names = ', '.join(each.name for each in expected)
        raise ValueError(
            f'expected {len(expected)} outputs ({names}) of the layout {spec.layout!r}, found '
            f'{len(outputs)}'
        )
    arrays = {}
    for output, each in zip(outputs, expected, strict=True):
        shape = each.shape(size)
        array = output[None] if _fits(output.shape, shape) else output
        if not _fits(array.shape[1:], shape) or len(array) < len(placements):
            raise ValueError(
                f'output {each.name}: expected {len(placements)} x {shape} for an input of '
                f'{size[0]}x{size[1]} (height x width), found {output.shape}'
            )
        arrays[each.key] = array
    return [
        {key: array[index] for key, array in arrays.items()} for index in range(len(placements))
    ]


def reader_of(spec: ModelSpec) -> Reader:
    """Return the reader of a specification.

    Raises:
        ValueError: There is no reader for its form.
    """
    form = LAYOUTS[spec.layout].form
    if (spec.family, form) not in READERS:
        raise ValueError(
            f'layout {spec.layout!r} of {spec.family}: these outputs cannot be read on their own'
        )
    return READERS[spec.family, form]


def _fits(found: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(found) == len(expected) and all(
        want in (None, side) for side, want in zip(found, expected, strict=True)
    )


def _read_scrfd(outputs: Outputs, spec: ModelSpec, size: tuple[int, int], rows: bool) -> Detections:
    levels = []
    for stride in spec.strides:
        maps = [outputs[kind, stride] for kind in channels(spec)]
        height, width = size[0] // stride, size[1] // stride
        # The threshold comes first: an image has thousands of priors but few faces.
        hot = np.flatnonzero(maps[0] > spec.score_thr)
        score = np.asarray(maps[0].ravel()[hot], np.float32)
        if rows:
            prior, label = np.divmod(hot, spec.num_classes)
            values = [np.asarray(each[prior], np.float32) for each in maps[1:]]
            centre = _centres(height, width, spec.num_priors, stride)[prior]
        else:
            block, cell = np.divmod(hot, height * width)
            number, label = np.divmod(block, spec.num_classes)
            values = [_rows_of_maps(each, spec.num_priors, number, cell) for each in maps[1:]]
            centre = _centres(height, width, 1, stride)[cell]
        distance = values[0] * np.float32(stride)
        points = None
        if spec.num_keypoints:
            offsets = (values[1] * np.float32(stride)).reshape(-1, spec.num_keypoints, 2)
            points = centre[:, None] + offsets
        boxes = np.concatenate([centre - distance[:, :2], centre + distance[:, 2:]], axis=1)
        levels.append((boxes, score, points, label))
    boxes, scores, points, labels = zip(*levels, strict=True)
    return Detections(
        np.concatenate(boxes),
        np.concatenate(scores),
        np.concatenate(points) if spec.num_keypoints else None,
        np.concatenate(labels) if spec.num_classes > 1 else None,
    )


def _read_scrfd_maps(outputs: Outputs, spec: ModelSpec, size: tuple[int, int]) -> Detections:
    return _read_scrfd(outputs, spec, size, rows=False)


def _read_scrfd_rows(outputs: Outputs, spec: ModelSpec, size: tuple[int, int]) -> Detections:
    return _read_scrfd(outputs, spec, size, rows=True)


def _rows_of_maps(
    values: Array, num_priors: int, number: NDArray[np.intp], cell: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Select priors (n,) of cells (n,) from a map (P * C, H, W): (n, C)."""
    flat = values.reshape(num_priors, -1, values.shape[1] * values.shape[2])
    return np.asarray(flat[number, :, cell], np.float32)


@lru_cache(maxsize=64)
def _centres(rows: int, columns: int, num_priors: int, stride: int) -> NDArray[np.float32]:
    """Compute the centres (rows * columns * P, 2), x and y, of all priors, cell by cell."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32) * stride
    return np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), num_priors, axis=0)


def _read_centerface(outputs: Outputs, spec: ModelSpec, size: tuple[int, int]) -> Detections:
    first, *maps = (outputs[kind, spec.strides[0]] for kind in channels(spec))
    heat = np.asarray(first, np.float32)
    hot = heat > spec.score_thr
    if spec.peak > 1:
        window = np.ones((spec.peak, spec.peak), np.uint8)
        # Outside of the map, OpenCV uses no value that could be the maximum.
        hottest = np.stack([cv2.dilate(each, window) for each in heat])
        hot &= heat >= hottest * np.float32(1 - spec.peak_tolerance)
    index = _hottest(heat.ravel(), np.flatnonzero(hot), spec.topk)
    height, width = heat.shape[1:]
    labels, cells = np.divmod(index, height * width)
    sides, offset, *points = (
        np.asarray(values.reshape(len(values), -1)[:, cells].T, np.float32) for values in maps
    )
    position = np.stack([cells % width, cells // width], axis=1).astype(np.float32)
    boxes, keypoints = decode_cells(position, sides, offset, points[0] if points else None, spec)
    several = spec.num_classes > 1
    return Detections(boxes, heat.ravel()[index], keypoints, labels if several else None)


def _read_boxes(outputs: Outputs, spec: ModelSpec, size: tuple[int, int]) -> Detections:
    scores = np.asarray(outputs['scores', 0], np.float32).ravel()
    index = _hottest(scores, np.flatnonzero(scores > spec.score_thr), spec.topk)
    rows, labels = np.divmod(index, spec.num_classes)
    points = outputs.get(('keypoints', 0))
    return Detections(
        np.asarray(outputs['boxes', 0][rows], np.float32),
        scores[index],
        None if points is None else np.asarray(points[rows], np.float32),
        labels if spec.num_classes > 1 else None,
    )


def _hottest(scores: NDArray[np.float32], index: NDArray[np.intp], topk: int) -> NDArray[np.intp]:
    """Keep the indices of the ``topk`` highest scores, -1 for all."""
    if topk < 0 or len(index) <= topk:
        return index
    return index[np.argpartition(-scores[index], topk)[:topk]] if topk else index[:0]


#: By family and form of the layout.
READERS: dict[tuple[str, str], Reader] = {
    ('scrfd', 'maps'): _read_scrfd_maps,
    ('scrfd', 'rows'): _read_scrfd_rows,
    ('scrfd', 'boxes'): _read_boxes,
    ('centerface', 'maps'): _read_centerface,
    ('centerface', 'boxes'): _read_boxes,
}
