# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Contact sheets of training samples with their labels, to see what a network is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from mmface.utils.images import Image

# BGR.
BOX_COLOUR = (90, 220, 60)
IGNORED_COLOUR = (160, 160, 160)
#: Keypoints whose mirror image is another keypoint: the first of a pair (with five keypoints the
#: one on the left of the image), the second, and those in the middle.
FIRST_COLOUR, SECOND_COLOUR, MIDDLE_COLOUR = (60, 60, 255), (255, 150, 40), (60, 230, 255)
#: A face of a smaller width in the sheet, in pixels, gets no numbers.
MIN_NUMBER_WIDTH = 48


def draw_labels(image: Image, sample: Any, metainfo: Mapping[str, Any], side: int) -> Image:
    """Draw the labels of a training sample.

    Faces to learn are green, ignored faces grey with a cross. Keypoints have the number of
    their position in the labels, from 0. Red and blue ones change places in a mirrored image.

    Args:
        image: (h, w, 3) BGR, uint8.
        sample: A ``DetDataSample`` as from ``PackFaceInputs``, with boxes in pixels of ``image``.
        metainfo: That of the data set: ``classes``, and ``flip_indices`` for the keypoints.
        side: Longer side of the result in pixels.

    Returns:
        (h * s, w * s, 3) BGR, with s = side / max(h, w).
    """
    scale = side / max(image.shape[:2])
    size = [max(1, round(length * scale)) for length in image.shape[1::-1]]
    canvas = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    for name, colour in (('ignored_instances', IGNORED_COLOUR), ('gt_instances', BOX_COLOUR)):
        faces = getattr(sample, name, None)
        boxes = (
            _array(faces.get('bboxes')) if faces is not None and len(faces) else np.zeros((0, 4))
        )
        points = None if faces is None else faces.get('keypoints')
        classes = None if faces is None else faces.get('labels')
        for index, box in enumerate(boxes * scale):
            corners = np.round(box).astype(int).reshape(2, 2).tolist()
            cv2.rectangle(canvas, corners[0], corners[1], colour, 1)
            if colour is IGNORED_COLOUR:
                cv2.line(canvas, corners[0], corners[1], colour, 1)
                continue
            names = metainfo.get('classes', ())
            if classes is not None and len(names) > 1:
                _write(canvas, str(names[int(classes[index])]), corners[0], colour)
            if points is not None:
                number = box[2] - box[0] >= MIN_NUMBER_WIDTH
                face = _array(points)[index] * (scale, scale, 1)
                _draw_keypoints(canvas, face, metainfo.get('flip_indices'), number)
    return canvas


def contact_sheet(tiles: Sequence[Image], columns: int, side: int) -> Image:
    """Put images into a grid of cells of ``side`` x ``side`` pixels on grey.

    Args:
        tiles: Images (h, w, 3) up to the size of a cell.
        columns: Cells of a row.
        side: Pixels.
    """
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * side, min(columns, len(tiles)) * side, 3), 64, np.uint8)
    for index, tile in enumerate(tiles):
        y, x = (side * at for at in divmod(index, columns))
        sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return sheet


def _array(value: Any) -> np.ndarray:
    value = getattr(value, 'tensor', value)  # mmdet may wrap boxes
    return np.asarray(value, np.float64)


def _draw_keypoints(
    canvas: Image, points: np.ndarray, flip: Sequence[int] | None, number: bool
) -> None:
    for k, (x, y, weight) in enumerate(points.tolist()):
        if weight <= 0:
            continue
        mirror = k if flip is None else flip[k]
        colour = MIDDLE_COLOUR if mirror == k else FIRST_COLOUR if k < mirror else SECOND_COLOUR
        centre = (round(x), round(y))
        cv2.circle(canvas, centre, 2, colour, -1, cv2.LINE_AA)
        if number:
            _write(canvas, str(k), (centre[0] + 3, centre[1] - 3), colour)


def _write(canvas: Image, text: str, corner: Sequence[int], colour: Sequence[int]) -> None:
    for shade, width in (((0, 0, 0), 2), (colour, 1)):  # a dark edge, then the text
        cv2.putText(canvas, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.35, shade, width, cv2.LINE_AA)
