# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find the face that each detection hits, in the two WIDER FACE protocols.

``float``
    Intersection over union in float64. A detection is assigned to the face of highest IoU (the
    first on ties). It hits that face if the IoU is at least ``iou_thr``. The common Python
    evaluators compute this on rows sorted by score.
``official``
    The computation of the benchmark's MATLAB code. Its ground truth is int32, so MATLAB computes
    ``boxoverlap.m`` in int32. Corners, union and the quotient are rounded (halves away from
    zero). So the IoU is 0 or 1, and the *first* face with an IoU of at least a half wins.

Both count the pixels of a side as ``x2 - x1 + 1``. In both, whether a detection hits a face does
not depend on the other detections. So one pass over all candidate pairs replaces the loop over
detections, and one matching serves the easy, medium and hard sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PROTOCOLS = ('float', 'official')

_INT32 = np.iinfo(np.int32)


class ImageMatch(NamedTuple):
    """The detections of one image, sorted by score (descending, stable)."""

    scores: NDArray[np.float64]
    """Shape (n,), as given by the detector."""
    gt_index: NDArray[np.int32]
    """Shape (n,), the index in this image of the face that each detection hits, -1 for none."""


def check_protocol(protocol: str, iou_thr: float) -> None:
    """Check that a protocol and an IoU threshold are valid.

    Raises:
        ValueError: The protocol is unknown, the threshold is outside (0, 1], or it is not 0.5 in
            the official protocol, where the IoU is only 0 or 1.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f'expected protocol float or official, found {protocol!r}')
    if not 0 < iou_thr <= 1:
        raise ValueError(f'expected an IoU threshold above 0 and up to 1, found {iou_thr}')
    if protocol == 'official' and iou_thr != 0.5:
        raise ValueError(
            f'the official protocol rounds the IoU to 0 or 1, so its threshold is always 0.5, '
            f'found {iou_thr}; use the float protocol for other thresholds'
        )


def match_image(
    rows: NDArray[np.floating],
    gt_boxes: NDArray[np.floating],
    iou_thr: float = 0.5,
    protocol: str = 'float',
) -> ImageMatch:
    """Match the detections of one image with its faces.

    Args:
        rows: Shape (n, 5), finite: x, y, w, h in pixels of the original image and score.
        gt_boxes: Shape (g, 4): x, y, w, h of all faces, including those in no subset.
        iou_thr: Minimum IoU of a hit.
        protocol: ``float`` or ``official``.
    """
    return match_images([rows], [gt_boxes], iou_thr, protocol)[0]


def match_images(
    rows: Sequence[NDArray[np.floating]],
    gt_boxes: Sequence[NDArray[np.floating]],
    iou_thr: float = 0.5,
    protocol: str = 'float',
) -> list[ImageMatch]:
    """Match many images at once, which is much faster than one by one.

    Args:
        rows: Argument ``rows`` of ``match_image`` for each image.
        gt_boxes: Argument ``gt_boxes`` of ``match_image`` for each image.
        iou_thr: Minimum IoU of a hit.
        protocol: ``float`` or ``official``.
    """
    if not rows:
        check_protocol(protocol, iou_thr)
        return []
    row_counts = np.array([len(image) for image in rows])
    table, local = match_table(
        np.concatenate([np.asarray(image, np.float64).reshape(-1, 5) for image in rows]),
        row_counts,
        np.concatenate([np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in gt_boxes]),
        np.array([len(boxes) for boxes in gt_boxes]),
        iou_thr,
        protocol,
    )
    scores = np.ascontiguousarray(table[:, 4])
    ends = np.cumsum(row_counts).tolist()
    return [
        ImageMatch(scores[start:end], local[start:end])
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def match_table(
    table: NDArray[np.float64],
    row_counts: NDArray[np.integer],
    gt_boxes: NDArray[np.float64],
    gt_counts: NDArray[np.integer],
    iou_thr: float = 0.5,
    protocol: str = 'float',
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Match many images whose detections and faces are concatenated.

    Args:
        table: Shape (n, 5): the detections of all images, rows as in ``match_image``.
        row_counts: Shape (images,): number of detections of each image.
        gt_boxes: Shape (g, 4): the faces of all images.
        gt_counts: Shape (images,): number of faces of each image.
        iou_thr: Minimum IoU of a hit.
        protocol: ``float`` or ``official``.

    Returns:
        The table, sorted by score in each image (descending, stable), and for each row the index
        in its image of the face that it hits, -1 for none, shape (n,).
    """
    check_protocol(protocol, iou_thr)
    table = _sort_by_score(table, row_counts)
    images = np.arange(len(row_counts), dtype=np.int32)
    hits = _match(
        table[:, :4],
        np.repeat(images, row_counts),
        gt_boxes,
        np.repeat(images, gt_counts),
        iou_thr,
        protocol,
    )
    gt_starts = np.cumsum(gt_counts) - gt_counts
    local = np.where(hits < 0, -1, hits - np.repeat(gt_starts, row_counts)).astype(np.int32)
    return table, local


def near_pairs(
    boxes: NDArray[np.float64],
    box_image: NDArray[np.int64],
    gt_boxes: NDArray[np.float64],
    gt_image: NDArray[np.int64],
    iou_thr: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return every pair of a box and a face of its image with an IoU of at least ``iou_thr``.

    Args:
        boxes: Shape (n, 4): x, y, w, h.
        box_image: Shape (n,): the image of each box.
        gt_boxes: Shape (g, 4): x, y, w, h.
        gt_image: Shape (g,): the image of each face.
        iou_thr: Minimum IoU, computed as in the protocol ``float``.

    Returns:
        Box, face and IoU of each pair.
    """
    with np.errstate(over='ignore', invalid='ignore', divide='ignore'):
        box, face = _candidate_pairs(boxes, box_image, gt_boxes, gt_image, iou_thr, 'float')
        box, face, iou = _pair_iou(boxes, gt_boxes, box, face, 'float')
    near = iou >= iou_thr
    return box[near], face[near], iou[near]


def _sort_by_score(
    table: NDArray[np.float64], row_counts: NDArray[np.integer]
) -> NDArray[np.float64]:
    scores = table[:, 4]
    falling = scores[1:] <= scores[:-1]
    ends = np.cumsum(row_counts)[:-1]
    falling[ends[(ends > 0) & (ends < len(table))] - 1] = True  # the next image begins
    if falling.all():
        return table
    order = np.arange(len(table))
    for end, count in zip(np.cumsum(row_counts).tolist(), row_counts.tolist(), strict=True):
        image = slice(end - count, end)
        if count > 1 and not falling[end - count : end - 1].all():
            order[image] = end - count + _stable_order(-scores[image])
    return table[order]


def _stable_order(keys: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the stable ascending order; numpy's default one is ten times faster without ties."""
    order = np.argsort(keys)
    ranked = keys[order]
    return order if (ranked[1:] > ranked[:-1]).all() else np.argsort(keys, kind='stable')


def _match(
    boxes: NDArray[np.float64],
    box_image: NDArray[np.integer],
    gt_boxes: NDArray[np.float64],
    gt_image: NDArray[np.integer],
    iou_thr: float,
    protocol: str,
) -> NDArray[np.int64]:
    """Return the index of the face that each box hits, -1 for none, shape (n,)."""
    hits = np.full(len(boxes), -1, np.int64)
    with np.errstate(over='ignore', invalid='ignore', divide='ignore'):
        box, face = _candidate_pairs(boxes, box_image, gt_boxes, gt_image, iou_thr, protocol)
        box, face, iou = _pair_iou(boxes, gt_boxes, box, face, protocol)
    good = iou >= iou_thr
    box, face, iou = box[good], face[good], iou[good]
    # Best IoU first, then the first face. Of equal indices numpy keeps the last assignment,
    # so the order is reversed.
    order = np.lexsort((face, -iou, box))[::-1]
    hits[box[order]] = face[order]
    return hits


def _candidate_pairs(
    boxes: NDArray[np.float64],
    box_image: NDArray[np.integer],
    gt_boxes: NDArray[np.float64],
    gt_image: NDArray[np.integer],
    iou_thr: float,
    protocol: str,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair every face with the boxes of its image whose centre is close enough for a hit.

    Two intervals of lengths a and b can only have overlap / union >= t if their centres are at
    most ``b * max(1 - t, (1 / t - 1) / 2)`` apart. The two limits are one interval shifted
    against the other, and one inside the other. A hit requires this in x and in y.
    """
    none = np.empty(0, np.int64)
    if not len(boxes) or not len(gt_boxes):
        return none, none
    factor = max(1 - iou_thr, (1 / iou_thr - 1) / 2)
    margin = 1.0
    if protocol == 'official':
        # Rounding moves corners by half a pixel and makes unions smaller than the boxes. Rounded
        # sides are up to one pixel longer. With 3 inter >= area + gt_area - 0.5, the ratio of
        # lengths is at most 2.5 (faces of 16 px and more) or 4.
        factor, margin = 0.75, 4.0
    sides = np.maximum(gt_boxes[:, 2:] + 1, 0)
    reach = sides * factor + margin
    if protocol == 'official':
        shortest = sides.min(axis=1)
        reach[shortest < 16] *= 2
        # For a face of up to three rows, a box with a height between -1 and 0 can have any
        # length and still an area that rounds to a hit: consider all boxes.
        reach[shortest < 5] = np.inf
    centres = gt_boxes[:, :2] + (gt_boxes[:, 2:] + 1) / 2
    low, high = centres - reach, centres + reach

    # One sorted key over all images: image number, then x within the range of all faces.
    # Clipping preserves the order, so it removes no box from the window of a face.
    finite = np.isfinite(low[:, 0])
    base = low[finite, 0].min(initial=0.0) - 1
    span = high[finite, 0].max(initial=0.0) - base + 1
    stride = span + 1

    def key(image: NDArray[np.integer], x: NDArray[np.float64]) -> NDArray[np.float64]:
        return image * stride + np.clip(x - base, 0, span)

    box_centres = boxes[:, :2] + (boxes[:, 2:] + 1) / 2
    box_keys = key(box_image, box_centres[:, 0])
    order = np.argsort(box_keys)
    box_keys = box_keys[order]
    start = np.searchsorted(box_keys, key(gt_image, low[:, 0]), side='left')
    end = np.searchsorted(box_keys, key(gt_image, high[:, 0]), side='right')
    counts = end - start
    face = np.repeat(np.arange(len(gt_boxes)), counts)
    offset = start - (np.cumsum(counts) - counts)
    box = order[np.arange(len(face)) + np.repeat(offset, counts)]
    y = box_centres[box, 1]
    near = (y >= low[face, 1]) & (y <= high[face, 1])
    return box[near], face[near]


def _pair_iou(
    boxes: NDArray[np.float64],
    gt_boxes: NDArray[np.float64],
    box: NDArray[np.int64],
    face: NDArray[np.int64],
    protocol: str,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs that share a pixel, and their IoU.

    The official protocol is ``boxoverlap.m`` with an int32 ground truth. In MATLAB, an operation
    of int32 with double is computed in double, then rounded and saturated to int32. Only the area
    of the detection itself is double. float64 represents all of it exactly.
    """
    left, top, right, bottom, area = _corners_and_area(boxes)
    if protocol == 'official':
        left, top, right, bottom = map(_to_int32, (left, top, right, bottom))
        gt_boxes = _to_int32(gt_boxes)
    gt_left, gt_top, gt_right, gt_bottom, gt_area = _corners_and_area(gt_boxes)
    width = np.minimum(right[box], gt_right[face]) - np.maximum(left[box], gt_left[face]) + 1
    height = np.minimum(bottom[box], gt_bottom[face]) - np.maximum(top[box], gt_top[face]) + 1
    common = np.flatnonzero((width > 0) & (height > 0))
    box, face = box[common], face[common]
    inter = width[common] * height[common]
    if protocol == 'float':
        return box, face, inter / (area[box] + gt_area[face] - inter)
    inter = np.minimum(inter, _INT32.max)
    union = _to_int32(area[box] + gt_area[face]) - inter
    return box, face, _to_int32(inter / union)


def _corners_and_area(boxes: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return x1, y1, x2, y2 and the area of xywh boxes, each of shape (n,)."""
    left, top, width, height = boxes.T.copy()
    right, bottom = left + width, top + height
    # From the corners, as in every evaluator, because the rounding of x + w matters.
    return left, top, right, bottom, (right - left + 1) * (bottom - top + 1)


def _to_int32(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round as MATLAB's ``int32()``: halves away from zero, saturated (kept as float64)."""
    # floor(|v| + 0.5) would round 0.49999999999999994 up, so the exact fraction is used.
    magnitude = np.abs(values)
    whole = np.floor(magnitude)
    whole += magnitude - whole >= 0.5
    return np.clip(np.copysign(whole, values), _INT32.min, _INT32.max)
