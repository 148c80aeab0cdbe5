# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Draw faces into a picture with OpenCV."""

from __future__ import annotations

import cv2
import numpy as np

Colour = tuple[int, int, int]

# RGB. One per landmark: left eye, right eye, nose, left and right corner of the mouth, left
# as seen in the picture. More landmarks begin again with the first.
LANDMARK_COLOURS: tuple[Colour, ...] = (
    (255, 80, 80),
    (80, 160, 255),
    (255, 220, 60),
    (255, 80, 220),
    (60, 230, 230),
)
FACE_COLOUR: Colour = (60, 220, 90)
TRUTH_COLOUR: Colour = (255, 255, 255)
# A label is only readable on a face this wide (pixels); smaller ones would be hidden by it.
MIN_LABEL_WIDTH = 24


def draw_faces(
    image: np.ndarray,
    bboxes: np.ndarray,
    scores: np.ndarray | None = None,
    keypoints: np.ndarray | None = None,
    colour: Colour = FACE_COLOUR,
) -> np.ndarray:
    """Draw boxes, scores and landmarks into a copy of ``image``.

    Lines and text grow with the picture, landmarks with their face.

    Args:
        image: (H, W, 3) uint8 RGB. For BGR give ``colour`` accordingly.
        bboxes: (n, 4) x1, y1, x2, y2 in pixels of ``image``.
        scores: (n,) scores, written above the boxes of faces large enough.
        keypoints: (n, K, 3) x, y, weight; points of weight 0 are not there.
        colour: Colour of the boxes.

    Returns:
        (H, W, 3) uint8.
    """
    canvas = np.ascontiguousarray(image).copy()
    line = max(1, round(max(image.shape[:2]) / 640))
    order = range(len(bboxes)) if scores is None else np.argsort(scores)  # best on top
    for i in order:
        x1, y1, x2, y2 = np.round(bboxes[i]).astype(int).tolist()
        # A dark rim keeps the box visible on a bright ground.
        cv2.rectangle(canvas, (x1, y1), (x2, y2), (0, 0, 0), line + 2)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, line)
        if keypoints is not None:
            _draw_landmarks(canvas, keypoints[i], radius=max(1, round((x2 - x1) / 30)))
        if scores is not None and x2 - x1 >= MIN_LABEL_WIDTH * line:
            _draw_label(canvas, f'{scores[i]:.2f}', (x1, y1), colour, line)
    return canvas


def _draw_landmarks(canvas: np.ndarray, points: np.ndarray, radius: int) -> None:
    for k, (x, y, weight) in enumerate(points.tolist()):
        if weight > 0:
            centre = (round(x), round(y))
            rgb = LANDMARK_COLOURS[k % len(LANDMARK_COLOURS)]
            cv2.circle(canvas, centre, radius + 1, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(canvas, centre, radius, rgb, -1, cv2.LINE_AA)


def _draw_label(
    canvas: np.ndarray, text: str, corner: tuple[int, int], colour: Colour, line: int
) -> None:
    """Write ``text`` on a filled plate above ``corner``, or below it at the upper edge."""
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
