# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Candidates of each output layout: thresholds first, then only what is left is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime.letterbox import Placement
from mmface.utils.centerface_convention import CONVENTIONS, MAX_LOG_SIZE

Array = NDArray[Any]
Reader = Callable[[int], 'Candidates']


class Candidates(NamedTuple):
    """What a network says about a picture, before overlaps are removed, in input pixels.

    Attributes:
        bboxes: (n, 4) x1, y1, x2, y2, float32; may leave the picture.
        scores: (n,) float32.
        keypoints: (n, K, 2) x, y, float32, or ``None`` without landmarks.
    """

    bboxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None


def reader_of(outputs: Sequence[Array], spec: ModelSpec, placements: Sequence[Placement]) -> Reader:
    """Give a function from the index of a picture to its candidates.

    Args:
        outputs: Arrays in the order of the file; the batch axis may be missing for one picture.
        spec: How to read them.
        placements: One per picture; all inputs have the same size.

    Raises:
        ValueError: If number or shapes of the outputs do not belong to the specification and the
            size of the input.
    """
    size = placements[0].size
    if any(placement.size != size for placement in placements):
        raise ValueError('the pictures of a batch need inputs of one size')
    expected = _expected_shapes(spec, size)
    if len(outputs) != len(expected):
        raise ValueError(
            f'expected {len(expected)} outputs ({", ".join(expected)}) of the layout '
            f'{spec.layout!r}, found {len(outputs)}'
        )
    arrays = []
    for output, (name, shape) in zip(outputs, expected.items(), strict=True):
        array = output[None] if output.shape == shape else output
        if array.shape[1:] != shape or len(array) < len(placements):
            raise ValueError(
                f'output {name}: expected {len(placements)} x {shape} for an input of '
                f'{size[0]}x{size[1]} (height x width), found {output.shape}'
            )
        arrays.append(array)
    if spec.layout == 'decoded':
        return lambda index: _read_decoded([array[index] for array in arrays], spec)
    if spec.family == 'scrfd':
        return lambda index: _read_scrfd([array[index] for array in arrays], spec, size)
    return lambda index: _read_centerface([array[index] for array in arrays], spec)


def _expected_shapes(spec: ModelSpec, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Give the outputs and their shapes without the batch axis."""
    points = spec.num_keypoints
    grids = [(size[0] // stride, size[1] // stride) for stride in spec.strides]
    if spec.layout == 'decoded':
        total = spec.num_priors * sum(rows * columns for rows, columns in grids)
        shapes: dict[str, tuple[int, ...]] = {'boxes': (total, 4), 'scores': (total,)}
        return shapes | ({'keypoints': (total, points, 2)} if points else {})
    if spec.family == 'centerface':
        channels = {'heatmap': 1, 'size': 2, 'offset': 2}
        channels |= {'keypoints': 2 * points} if points else {}
        return {name: (count, *grids[0]) for name, count in channels.items()}
    shapes = {}
    for name, count in (('score', 1), ('bbox', 4), ('kps', 2 * points)):
        for stride, (rows, columns) in zip(spec.strides, grids, strict=True):
            if count and spec.layout == 'raw':
                shapes[f'{name}_{stride}'] = (spec.num_priors * count, rows, columns)
            elif count:
                shapes[f'{name}_{stride}'] = (spec.num_priors * rows * columns, count)
    return shapes


def _read_scrfd(outputs: Sequence[Array], spec: ModelSpec, size: tuple[int, int]) -> Candidates:
    count = len(spec.strides)
    levels = []
    for level, stride in enumerate(spec.strides):
        maps = outputs[level::count]
        # The threshold comes first: a picture has thousands of priors and a few faces.
        prior = np.flatnonzero(maps[0] > spec.score_thr)
        columns = size[1] // stride
        if spec.layout == 'raw':
            centres = _centres(size[0] // stride, columns, 1, stride)
            score, *values = (_rows_of_maps(each, spec.num_priors, prior) for each in maps)
            centre = centres[prior % len(centres)]
        else:
            score, *values = (np.asarray(each[prior], np.float32) for each in maps)
            centre = _centres(size[0] // stride, columns, spec.num_priors, stride)[prior]
        distance = values[0] * np.float32(stride)
        points = None
        if spec.num_keypoints:
            offsets = (values[1] * np.float32(stride)).reshape(-1, spec.num_keypoints, 2)
            points = centre[:, None] + offsets
        boxes = np.concatenate([centre - distance[:, :2], centre + distance[:, 2:]], axis=1)
        levels.append((boxes, score[:, 0], points))
    boxes, scores, points = zip(*levels, strict=True)
    return Candidates(
        np.concatenate(boxes),
        np.concatenate(scores),
        np.concatenate(points) if spec.num_keypoints else None,
    )


def _rows_of_maps(values: Array, num_priors: int, prior: NDArray[np.intp]) -> NDArray[np.float32]:
    """Take priors, counted as (P, H, W), of a map (P * C, H, W): (n, C)."""
    cells = values.shape[1] * values.shape[2]
    flat = values.reshape(num_priors, -1, cells)
    return np.asarray(flat[prior // cells, :, prior % cells], np.float32)


@lru_cache(maxsize=64)
def _centres(rows: int, columns: int, num_priors: int, stride: int) -> NDArray[np.float32]:
    """Give the centres (rows * columns * P, 2), x and y, of all priors, cell by cell."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32) * stride
    return np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), num_priors, axis=0)


def _read_centerface(outputs: Sequence[Array], spec: ModelSpec) -> Candidates:
    heat = np.asarray(outputs[0][0], np.float32)
    hot = heat > spec.score_thr
    if spec.peak > 1:
        # Outside of the map OpenCV takes nothing for hotter.
        hottest = cv2.dilate(heat, np.ones((spec.peak, spec.peak), np.uint8))
        hot &= heat >= hottest * np.float32(1 - spec.peak_tolerance)
    cells = _hottest(heat.ravel(), np.flatnonzero(hot), spec.topk)
    size, offset, *points = (
        np.asarray(output.reshape(len(output), -1)[:, cells].T, np.float32)
        for output in outputs[1:]
    )
    width = heat.shape[1]
    position = np.stack([cells % width, cells // width], axis=1).astype(np.float32)
    boxes, keypoints = decode_cells(position, size, offset, points[0] if points else None, spec)
    return Candidates(boxes, heat.ravel()[cells], keypoints)


def decode_cells(
    cell: NDArray[np.float32],
    size: NDArray[np.float32],
    offset: NDArray[np.float32],
    keypoints: NDArray[np.float32] | None,
    spec: ModelSpec,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Do what ``CenterFaceCoder.decode`` does, without keeping boxes inside the picture.

    Args:
        cell: (n, 2) column and row.
        size: (n, 2) values of the size map.
        offset: (n, 2) values of the offset map.
        keypoints: (n, 2K) values of the landmark map, or ``None``.
        spec: ``convention``, ``keypoint_anchor`` and ``strides`` count.

    Returns:
        Boxes (n, 4) xyxy and landmarks (n, K, 2) x, y or ``None``, in input pixels.
    """
    rule = CONVENTIONS[spec.convention]
    stride = np.float32(spec.strides[0])
    order = slice(None, None, -1 if rule.rows_first else 1)
    sides = np.exp(np.minimum(size[:, order], MAX_LOG_SIZE)) * np.float32(rule.size_unit)
    centre = cell + offset[:, order] + np.float32(0.5 if rule.half_cell else 0.0)
    corner = centre * stride - sides / 2
    boxes = np.concatenate([corner, corner + sides], axis=1)
    if keypoints is None:
        return boxes, None
    values = keypoints.reshape(len(keypoints), keypoints.shape[1] // 2, 2)[..., order]
    if rule.keypoint_frame == 'box':
        return boxes, values * sides[:, None] + corner[:, None]
    anchor = (cell if spec.keypoint_anchor == 'cell' else centre) * stride
    unit = sides if rule.keypoint_frame == 'sized' else np.full_like(sides, stride)
    return boxes, values * unit[:, None] + anchor[:, None]


def _read_decoded(outputs: Sequence[Array], spec: ModelSpec) -> Candidates:
    scores = np.asarray(outputs[1], np.float32)
    index = _hottest(scores, np.flatnonzero(scores > spec.score_thr), spec.topk)
    boxes, _, *points = (np.asarray(output[index], np.float32) for output in outputs)
    return Candidates(boxes, scores[index], points[0] if points else None)


def _hottest(scores: NDArray[np.float32], index: NDArray[np.intp], topk: int) -> NDArray[np.intp]:
    """Keep the indices of the ``topk`` best scores, -1 for all."""
    if topk < 0 or len(index) <= topk:
        return index
    return index[np.argpartition(-scores[index], topk)[:topk]] if topk else index[:0]
