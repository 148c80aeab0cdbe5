# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Cut large images into overlapping tiles, and join the faces found in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.deploy.runtime.detections import Detections
from mmface.deploy.runtime.nms import class_nms

#: Overlap of neighbouring tiles, relative to their sides. A face that is smaller than the overlap
#: lies wholly inside one of them.
OVERLAP = 0.25
#: Each coarser pass has an image of a quarter of the sides. A face that fills the overlap of one
#: pass (160 px of 640) has 40 px in the next.
_STEP = 4
#: A face that comes closer than this to a cut edge (pixels of the tile) may be a part of one.
_EDGE = 2
#: IoU above which two passes have found the same face, for models without NMS.
_IOU = 0.45


class Tile(NamedTuple):
    """A part of an image.

    Attributes:
        pixels: (h, w, 3); at scale 1 a view of the image.
        scale: Pixels of the tile per pixel of the image, x and y.
        corner: Position of the tile's top-left corner in the scaled image, x and y.
        cut: Whether left, top, right and bottom edge lie inside the image.
    """

    pixels: NDArray[np.uint8]
    scale: tuple[float, float]
    corner: tuple[int, int]
    cut: tuple[bool, bool, bool, bool]


def cut_tiles(image: NDArray[np.uint8], size: tuple[int, int], whole: float) -> Iterator[Tile]:
    """Cut an image into tiles of the size of the network's input, in full and lower resolutions.

    Args:
        image: (H, W, 3).
        size: Height and width of a tile.
        whole: Scale at which the whole image passes through the network on its own. Only finer
            scales get tiles. If it is 1 or more, there are none.

    Yields:
        The tiles. One scaled image exists at a time.
    """
    factor = 1.0
    while whole < factor * 0.99:
        height, width = (max(round(side * factor), 1) for side in image.shape[:2])
        level = image
        if factor < 1:
            level = np.asarray(
                cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8
            )
        scale = (width / image.shape[1], height / image.shape[0])
        for top in _starts(height, size[0]):
            for left in _starts(width, size[1]):
                bottom, right = min(top + size[0], height), min(left + size[1], width)
                cut = (left > 0, top > 0, right < width, bottom < height)
                yield Tile(level[top:bottom, left:right], scale, (left, top), cut)
        factor /= _STEP


def _starts(side: int, tile: int) -> list[int]:
    """Return the first pixels of evenly spaced tiles that cover a side."""
    if side <= tile:
        return [0]
    step = tile * (1 - OVERLAP)
    count = int(np.ceil((side - tile) / step)) + 1
    return [round(index * (side - tile) / (count - 1)) for index in range(count)]


def to_image(found: Detections, tile: Tile) -> Detections:
    """Convert pixels of a tile to pixels of the image, without faces that the tile cuts.

    A face at a cut edge is whole in the neighbouring tile, or in a coarser pass.
    """
    height, width = tile.pixels.shape[:2]
    near = np.stack(
        [
            found.bboxes[:, 0] < _EDGE,
            found.bboxes[:, 1] < _EDGE,
            found.bboxes[:, 2] > width - _EDGE,
            found.bboxes[:, 3] > height - _EDGE,
        ],
        axis=1,
    )
    found = found.take(~(near & np.array(tile.cut)).any(axis=1))
    corner, scale = np.array(tile.corner, np.float32), np.array(tile.scale, np.float32)
    points = found.keypoints
    return found._replace(
        bboxes=((found.bboxes.reshape(-1, 2, 2) + corner) / scale).reshape(-1, 4),
        keypoints=None if points is None else (points + corner) / scale,
    )


def join(parts: Sequence[Detections], iou: float, max_per_img: int) -> Detections:
    """Join the faces of several passes over an image; NMS removes those found twice.

    Args:
        parts: Faces of each pass in pixels of the image. At least one.
        iou: As for ``nms``; 0 is replaced by a default.
        max_per_img: Maximum number of faces, -1 for all.
    """

    def together(rows: Sequence[Any]) -> Any:
        return None if rows[0] is None else np.concatenate(rows)

    found = Detections(*(together(rows) for rows in zip(*parts, strict=True)))
    # Models without NMS, too, find a face in several passes.
    keep = class_nms(found.bboxes, found.scores, found.labels, iou or _IOU)
    return found.take(keep if max_per_img < 0 else keep[:max_per_img])
