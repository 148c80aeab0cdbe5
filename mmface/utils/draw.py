# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Draw faces into an image with OpenCV, or hide them. Does not need torch."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mmface.structures import Face
from mmface.utils.images import Image

Colour = tuple[int, int, int]

# RGB, one per keypoint: left eye, right eye, nose, left and right corner of the mouth. Left is
# as seen in the image. Further keypoints start again with the first colour.
KEYPOINT_COLOURS: tuple[Colour, ...] = (
    (255, 80, 80),
    (80, 160, 255),
    (255, 220, 60),
    (255, 80, 220),
    (60, 230, 230),
)
FACE_COLOUR: Colour = (60, 220, 90)
TRUTH_COLOUR: Colour = (255, 255, 255)
# RGB, one per class. Further classes start again with the first colour.
CLASS_COLOURS: tuple[Colour, ...] = (
    FACE_COLOUR,
    (255, 150, 40),
    (90, 150, 255),
    (230, 80, 210),
    (245, 225, 60),
    (60, 225, 225),
)
# A face with more keypoints than this gets smaller points.
MANY_KEYPOINTS = 10
# A label is readable only on a face of at least this width (pixels) and would hide a smaller one.
MIN_LABEL_WIDTH = 24
#: Extra border of a hidden face on each side, relative to the box. A box ends at forehead and
#: chin, but hair and ears identify people too.
MARGIN = 0.25
#: Along the longer side of the hidden area: about four across the face, which keep its tint.
CELLS = 6
#: Minimum size of a cell in pixels, for small faces.
MIN_CELL = 8
STYLES = ('blur', 'pixelate', 'solid')
SHAPES = ('box', 'ellipse')


def class_colours(count: int) -> list[Colour]:
    """Return the colours (RGB) of ``count`` classes."""
    return [CLASS_COLOURS[label % len(CLASS_COLOURS)] for label in range(count)]


def draw_faces(
    image: np.ndarray,
    bboxes: np.ndarray,
    scores: np.ndarray | None = None,
    keypoints: np.ndarray | None = None,
    colour: Colour | None = None,
    labels: np.ndarray | None = None,
    names: Sequence[str | None] | None = None,
    bgr: bool = False,
) -> np.ndarray:
    """Draw boxes, scores and keypoints into a copy of ``image``.

    The size of lines and text depends on the image, that of keypoints on their face.

    Args:
        image: (H, W, 3) uint8 RGB.
        bboxes: (n, 4) x1, y1, x2, y2 in pixels of ``image``.
        scores: (n,) scores, written above the boxes of faces that are large enough.
        keypoints: (n, K, 3) x, y, weight; keypoints of weight 0 are not drawn.
        colour: Colour of the boxes, RGB. Default: the colour of the class.
        labels: (n,) classes; all 0 by default.
        names: Names of the classes of the n boxes, written before the scores.
        bgr: Whether ``image`` is BGR.

    Returns:
        (H, W, 3) uint8.
    """
    canvas = np.array(image, order='C')
    points = [_order(each, bgr) for each in KEYPOINT_COLOURS]
    line = max(1, round(max(image.shape[:2]) / 640))
    order = range(len(bboxes)) if scores is None else np.argsort(scores)  # best score on top
    for i in order:
        x1, y1, x2, y2 = np.round(bboxes[i]).astype(int).tolist()
        # A dark border keeps the box visible on a bright background.
        cv2.rectangle(canvas, (x1, y1), (x2, y2), (0, 0, 0), line + 2)
        label = 0 if labels is None else int(labels[i])
        own = _order(colour or CLASS_COLOURS[label % len(CLASS_COLOURS)], bgr)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), own, line)
        if keypoints is not None:
            share = 30 if keypoints.shape[1] <= MANY_KEYPOINTS else 100
            _draw_keypoints(canvas, keypoints[i], max(1, round((x2 - x1) / share)), points)
        words = [] if names is None or names[i] is None else [str(names[i])]
        words += [] if scores is None else [f'{scores[i]:.2f}']
        if words and x2 - x1 >= MIN_LABEL_WIDTH * line:
            _draw_label(canvas, ' '.join(words), (x1, y1), own, line)
    return canvas


def mark_faces(image: Image, faces: Sequence[Face]) -> Image:
    """Draw boxes, scores and keypoints of ``faces`` into a copy of ``image``.

    Args:
        image: (H, W, 3) BGR.
        faces: The faces detected in it.

    Returns:
        (H, W, 3) BGR.
    """
    if not faces:
        return image.copy()
    bboxes = np.stack([face.bbox for face in faces])
    scores = np.array([face.score for face in faces])
    keypoints = None
    if faces[0].keypoints is not None:
        points = np.stack([face.keypoints for face in faces if face.keypoints is not None])
        keypoints = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
    return draw_faces(
        image,
        bboxes,
        scores,
        keypoints,
        labels=np.array([face.label for face in faces]),
        names=[face.class_name for face in faces],
        bgr=True,
    )


def hide_faces(
    image: Image,
    faces: Sequence[Face],
    style: str = 'blur',
    shape: str = 'box',
    margin: float = MARGIN,
) -> Image:
    """Hide ``faces`` in a copy of ``image``.

    Of a hidden face, only the means of at most ``CELLS`` x ``CELLS`` cells remain, or nothing. All
    other detail is removed from the image.

    Args:
        image: (H, W, 3) BGR.
        faces: The faces detected in it.
        style: 'blur' and 'pixelate' put a few coarse cells over a face; 'blur' smooths them,
            which only looks better. 'solid' makes it black.
        shape: 'box', or 'ellipse' for the ellipse inside the box. From a margin of 0.21 on, the
            ellipse covers the whole box of the detector.
        margin: Extra border on each side, relative to the box.

    Returns:
        (H, W, 3) BGR.

    Raises:
        ValueError: An option is unknown.
    """
    for name, value, allowed in (('style', style, STYLES), ('shape', shape, SHAPES)):
        if value not in allowed:
            raise ValueError(f'{name} {value!r}: expected one of {", ".join(allowed)}')
    hidden = image.copy()
    for face in faces:
        x1, y1, x2, y2 = face.bbox.tolist()
        grow_x, grow_y = margin * (x2 - x1), margin * (y2 - y1)
        area = (x1 - grow_x, y1 - grow_y, x2 + grow_x, y2 + grow_y)
        _hide(hidden, area, style, shape)
    return hidden


def _hide(image: Image, area: tuple[float, float, float, float], style: str, shape: str) -> None:
    """Hide an area, x1, y1, x2, y2, of ``image`` in place."""
    height, width = image.shape[:2]
    left, top = max(int(area[0]), 0), max(int(area[1]), 0)
    right, bottom = min(int(area[2]) + 1, width), min(int(area[3]) + 1, height)
    if right <= left or bottom <= top:
        return
    part = image[top:bottom, left:right]
    cover = np.zeros_like(part) if style == 'solid' else _coarse(part, style == 'blur')
    if shape == 'box':
        image[top:bottom, left:right] = cover
        return
    # Of a face at the edge of the image, the ellipse goes around all of it.
    centre = ((area[0] + area[2]) / 2 - left, (area[1] + area[3]) / 2 - top)
    y, x = np.ogrid[: bottom - top, : right - left]
    radius_x, radius_y = (area[2] - area[0] + 1) / 2, (area[3] - area[1] + 1) / 2
    inside = ((x + 0.5 - centre[0]) / radius_x) ** 2 + ((y + 0.5 - centre[1]) / radius_y) ** 2 <= 1
    part[inside] = cover[inside]


def _coarse(part: Image, smooth: bool) -> Image:
    """Reduce a part of an image to the means of a few cells."""
    cell = max(max(part.shape[:2]) / CELLS, MIN_CELL)
    columns, rows = (max(int(side / cell), 1) for side in (part.shape[1], part.shape[0]))
    coarse = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(coarse, part.shape[1::-1], interpolation=how), np.uint8)


def _order(rgb: Colour, bgr: bool) -> Colour:
    """Return a colour in the order of an image's channels."""
    return (rgb[2], rgb[1], rgb[0]) if bgr else rgb


def _draw_keypoints(
    canvas: np.ndarray, points: np.ndarray, radius: int, colours: Sequence[Colour]
) -> None:
    for k, (x, y, weight) in enumerate(points.tolist()):
        if weight > 0:
            centre = (round(x), round(y))
            colour = colours[k % len(colours)]
            cv2.circle(canvas, centre, radius + 1, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(canvas, centre, radius, colour, -1, cv2.LINE_AA)


def _draw_label(
    canvas: np.ndarray, text: str, corner: tuple[int, int], colour: Colour, line: int
) -> None:
    """Write ``text`` on a filled plate above ``corner``, or below it at the top edge."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4 * line
    (width, height), _ = cv2.getTextSize(text, font, scale, line)
    x, y = corner
    x = min(max(x, 0), max(canvas.shape[1] - width - 2 * line, 0))
    top = y - height - 4 * line
    if top < 0:
        top = max(y, 0)
    bottom = top + height + 4 * line
    cv2.rectangle(canvas, (x, top), (x + width + 2 * line, bottom), colour, -1)
    cv2.putText(
        canvas, text, (x + line, bottom - 2 * line), font, scale, (0, 0, 0), line, cv2.LINE_AA
    )
