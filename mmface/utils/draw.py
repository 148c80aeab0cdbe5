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

    Returns:
        (H, W, 3) uint8.
    """
    canvas = np.ascontiguousarray(image).copy()
    line = max(1, round(max(image.shape[:2]) / 640))
    order = range(len(bboxes)) if scores is None else np.argsort(scores)  # best score on top
    for i in order:
        x1, y1, x2, y2 = np.round(bboxes[i]).astype(int).tolist()
        # A dark border keeps the box visible on a bright background.
        cv2.rectangle(canvas, (x1, y1), (x2, y2), (0, 0, 0), line + 2)
        label = 0 if labels is None else int(labels[i])
        own = colour or CLASS_COLOURS[label % len(CLASS_COLOURS)]
        cv2.rectangle(canvas, (x1, y1), (x2, y2), own, line)
        if keypoints is not None:
            share = 30 if keypoints.shape[1] <= MANY_KEYPOINTS else 100
            _draw_keypoints(canvas, keypoints[i], radius=max(1, round((x2 - x1) / share)))
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
    drawn = draw_faces(
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB),
        bboxes,
        scores,
        keypoints,
        labels=np.array([face.label for face in faces]),
        names=[face.class_name for face in faces],
    )
    return cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)


def blur_faces(image: Image, faces: Sequence[Face]) -> Image:
    """Hide ``faces`` in a copy of ``image``, each behind a few coarse, smoothed cells.

    Of a hidden face, only the means of at most ``CELLS`` x ``CELLS`` cells remain. All other
    detail is removed from the image. Smoothing the cells only improves the appearance.

    Args:
        image: (H, W, 3) BGR.
        faces: The faces detected in it.

    Returns:
        (H, W, 3) BGR.
    """
    height, width = image.shape[:2]
    hidden = image.copy()
    for face in faces:
        x1, y1, x2, y2 = face.bbox.tolist()
        grow_x, grow_y = MARGIN * (x2 - x1), MARGIN * (y2 - y1)
        left, top = max(int(x1 - grow_x), 0), max(int(y1 - grow_y), 0)
        right, bottom = min(int(x2 + grow_x) + 1, width), min(int(y2 + grow_y) + 1, height)
        if right <= left or bottom <= top:
            continue
        part = hidden[top:bottom, left:right]
        cell = max(max(part.shape[:2]) / CELLS, MIN_CELL)
        columns, rows = (max(int(side / cell), 1) for side in (part.shape[1], part.shape[0]))
        coarse = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        hidden[top:bottom, left:right] = cv2.resize(
            coarse, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_LINEAR
        )
    return hidden


def _draw_keypoints(canvas: np.ndarray, points: np.ndarray, radius: int) -> None:
    for k, (x, y, weight) in enumerate(points.tolist()):
        if weight > 0:
            centre = (round(x), round(y))
            rgb = KEYPOINT_COLOURS[k % len(KEYPOINT_COLOURS)]
            cv2.circle(canvas, centre, radius + 1, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(canvas, centre, radius, rgb, -1, cv2.LINE_AA)


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
