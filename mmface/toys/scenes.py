# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Compose whole images of drawn people and label every face exactly."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.toys.backgrounds import SKINS, Rng, draw_background, draw_object, random_colour
from mmface.toys.faces import ToyFace
from mmface.toys.portrait import draw_person

_HAIRS = ((25, 25, 30), (30, 40, 60), (40, 70, 110), (70, 140, 190), (150, 150, 155), (40, 60, 140))
_IRISES = ((40, 60, 90), (60, 90, 60), (140, 100, 60), (30, 40, 50))
_STYLES = ('short', 'short', 'long', 'long', 'fringe', 'cap', 'bald', 'scarf')
_ILL_LIT = (0.55, 1.45)  # exposure outside of this range counts as extreme illumination
_MIN_KEYPOINT_HEIGHT = 12  # px; smaller faces have no keypoints
_OCCLUDER = -1

# Number of people, face height range in an image 360 px high, probability of a clear face.
SCENES: tuple[tuple[tuple[int, int], tuple[float, float], float], ...] = (
    ((4, 10), (18, 90), 0.75),  # a parade
    ((6, 14), (32, 80), 0.85),  # a group
    ((1, 2), (110, 300), 0.9),  # an interview
    ((2, 5), (26, 160), 0.9),  # a couple, others behind
    ((18, 45), (8, 36), 0.75),  # a demonstration
)


@dataclass
class ToyLabel:
    """Label of one face.

    Attributes:
        box: x, y, width, height in pixels.
        keypoints: (5, 3) x, y, flag. Flag 1 marks an occluded point. A row of -1 is a point
            outside of the image or turned away from the camera.
        blur: 0 clear, 1 normal, 2 heavy.
        expression: 1 exaggerated.
        illumination: 1 extreme.
        invalid: 1 if the face is not recognisable.
        occlusion: 0 none, 1 up to 30 % of the face, 2 more.
        pose: 1 atypical.
        level: Difficulty: 0 easy, 1 medium, 2 hard, 3 outside of every subset.
    """

    box: tuple[float, float, float, float]
    keypoints: NDArray[np.float64] = field(default_factory=lambda: np.full((5, 3), -1.0))
    blur: int = 0
    expression: int = 0
    illumination: int = 0
    invalid: int = 0
    occlusion: int = 0
    pose: int = 0
    level: int = 3


class _Canvas:
    """An image and, per pixel, the number of its face (0 background, -1 other objects)."""

    def __init__(self, image: NDArray[np.float32]) -> None:
        self.image = image
        self.owner: NDArray[np.int32] = np.zeros(image.shape[:2], np.int32)

    def paste(
        self,
        patch: NDArray[np.float32],
        corner: tuple[int, int],
        mask: NDArray[np.bool_] | None = None,
        number: int = _OCCLUDER,
    ) -> None:
        h, w = self.owner.shape
        x0, y0 = max(corner[0], 0), max(corner[1], 0)
        x1, y1 = min(corner[0] + patch.shape[1], w), min(corner[1] + patch.shape[0], h)
        if x0 >= x1 or y0 >= y1:
            return
        cut = (slice(y0 - corner[1], y1 - corner[1]), slice(x0 - corner[0], x1 - corner[0]))
        part = patch[cut]
        view = self.image[y0:y1, x0:x1]
        view *= 1 - part[..., 3:] / 255
        view += part[..., :3]
        owner = self.owner[y0:y1, x0:x1]
        owner[part[..., 3] > 127] = _OCCLUDER
        if mask is not None:
            owner[mask[cut]] = number


def random_face(rng: Rng, center: tuple[float, float], height: float, clear: bool) -> ToyFace:
    """Return a person with random appearance and pose.

    Args:
        rng: Source of all random choices.
        center: Centre of the head (x, y), pixels.
        height: Face height, pixels.
        clear: Whether the face is near frontal, sharp and well lit; otherwise not restricted.
    """
    wild = 0.45 if clear else 1.0
    skin = tuple(
        int(np.clip(c * rng.uniform(0.92, 1.08), 0, 255)) for c in SKINS[rng.integers(len(SKINS))]
    )
    blur = (
        rng.uniform(0, 0.01) if clear else float(rng.choice([0.0, 0.025, 0.06], p=[0.5, 0.3, 0.2]))
    )
    if clear:
        exposure = rng.uniform(0.75, 1.15)
    else:
        exposure = rng.choice(
            [rng.uniform(0.28, 0.5), rng.uniform(0.7, 1.2), rng.uniform(1.5, 1.9)],
            p=[0.15, 0.75, 0.1],
        )
    hair = _STYLES[rng.integers(len(_STYLES))]
    return ToyFace(
        center=center,
        height=height,
        yaw=float(np.clip(rng.normal(0, 24 * wild), -52, 52)),
        pitch=float(np.clip(rng.normal(0, 12 * wild), -30, 30)),
        roll=float(np.clip(rng.normal(0, 16 * wild), -60, 60)),
        width=float(rng.uniform(0.7, 0.82)),
        colours={
            'skin': skin,  # type: ignore[dict-item]
            'hair': _HAIRS[rng.integers(len(_HAIRS))],
            'iris': _IRISES[rng.integers(len(_IRISES))],
            'lips': tuple(
                int(0.62 * c + 0.38 * o) for c, o in zip(skin, (70, 60, 190), strict=True)
            ),  # type: ignore[dict-item]
            'shirt': random_colour(rng),
            'extra': random_colour(rng),
        },
        hair=hair,
        glasses=str(rng.choice(['none', 'clear', 'dark'], p=[0.78, 0.16, 0.06])),
        beard=0 if hair in ('long', 'scarf') else int(rng.choice(3, p=[0.6, 0.2, 0.2])),
        mask=bool(rng.random() < (0.0 if clear else 0.12)),
        smile=float(rng.uniform(-0.6, 1)),
        mouth_open=float(max(0, rng.uniform(-1, 1))),
        eye_open=float(rng.uniform(0.35, 1)),
        light=(
            float(rng.uniform(-1, 1)),
            float(rng.uniform(-1, 0.2)),
            float(rng.uniform(0.15, 0.6)),
        ),
        exposure=float(exposure),
        blur=blur,
    )


def _arrange(rng: Rng, style: int, size: tuple[int, int]) -> list[ToyFace]:
    """Place the people of a scene, far ones first; few of them cover another's face."""
    w, h = size
    zoom = min(w, h) / 360
    count, (low, high), clear = SCENES[style % len(SCENES)]
    number = int(rng.integers(count[0], count[1] + 1))
    heights = np.sort(np.exp(rng.uniform(np.log(low), np.log(high), number)))[::-1] * zoom
    taken = np.zeros((h // 4 + 1, w // 4 + 1), bool)
    people = []
    for height in heights:
        height = max(8.0, float(height))
        near = (height / zoom - low) / (high - low)
        for _ in range(12):
            x = rng.uniform(min(0.45 * height, w / 2 - 1), max(w - 0.45 * height, w / 2))
            y = h * (0.2 + 0.35 * near) + rng.normal(0, 0.09 * h)
            y = float(np.clip(y, min(0.56 * height, h / 2), max(h / 2, h - 0.4 * height)))
            box = (
                np.array([x - 0.4 * height, y - 0.5 * height, x + 0.4 * height, y + 0.5 * height])
                / 4
            )
            x0, y0, x1, y1 = np.clip(np.round(box), 0, None).astype(int)
            covered = float(taken[y0 : y1 + 1, x0 : x1 + 1].mean())
            if covered < (0.04 if rng.random() < 0.9 else 0.5):
                break
        else:
            continue
        taken[max(0, y0 - 1) : y1 + 1, x0 : x1 + 1] = True
        shoulder = round(0.22 * height)
        taken[y1:, max(0, x0 - shoulder // 2) : x1 + shoulder // 2 + 1] = True
        people.append(random_face(rng, (float(x), y), height, bool(rng.random() < clear)))
    return people[::-1]


def _label(face: ToyFace, number: int, area: int, canvas: _Canvas) -> ToyLabel | None:
    """Label a face by its visible part in the finished image; return None if it is not visible."""
    h, w = canvas.owner.shape
    visible = np.count_nonzero(canvas.owner == number) / max(area, 1)
    x0, y0, x1, y1 = np.round(np.clip(face.box(), 0, (w, h, w, h)))
    if visible < 0.05 or x1 <= x0 or y1 <= y0:
        return None
    label = ToyLabel((x0, y0, x1 - x0, y1 - y0))
    points, facing = face.keypoints()
    inside = ((points >= 0) & (points < (w, h))).all(axis=1)
    if face.height >= _MIN_KEYPOINT_HEIGHT:
        for k in np.flatnonzero(inside & facing):
            x, y = points[k]
            label.keypoints[k] = x, y, canvas.owner[int(y), int(x)] != number
    fuzzy = np.hypot(face.blur, 0.6 / face.height)  # 0.6 px: blur of the pixel grid itself
    label.blur = 2 if fuzzy >= 0.05 else int(fuzzy >= 0.022)
    label.expression = int(face.mouth_open > 0.7)
    label.illumination = int(not _ILL_LIT[0] <= face.exposure <= _ILL_LIT[1])
    label.occlusion = 2 if visible < 0.7 else int(visible < 0.95 or face.mask)
    label.pose = int(abs(face.yaw) > 40 or abs(face.roll) > 30 or abs(face.pitch) > 25)
    label.invalid = int(visible < 0.25 or (face.blur > 0.05 and face.height < 11))
    plain = not (label.illumination or label.pose or label.occlusion)
    if label.invalid or label.box[3] < 9:  # minimum heights of the official subsets
        label.level = 3
    elif label.box[3] >= 34 and label.blur < 2 and plain:
        label.level = 0
    elif label.box[3] >= 16 and label.blur < 2 and label.occlusion < 2:
        label.level = 1
    else:
        label.level = 2
    return label


def _finish(rng: Rng, image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Apply camera effects: colour cast, exposure, soft lens and noise."""
    image = image * rng.uniform(0.9, 1.1, 3).astype(np.float32) * np.float32(rng.uniform(0.8, 1.15))
    if rng.random() < 0.06:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8))
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32)[..., None]
    return np.clip(image + noise * np.float32(rng.uniform(0.5, 6)), 0, 255).astype(np.uint8)


def compose(
    rng: Rng, style: int, size: tuple[int, int], people: list[ToyFace] | None = None
) -> tuple[NDArray[np.uint8], list[ToyLabel]]:
    """Draw one image.

    Args:
        rng: Source of all random choices.
        style: Index into :data:`SCENES`, wraps around.
        size: Width and height, pixels.
        people: People to draw, far ones first; None places people as in scene ``style``.

    Returns:
        BGR image (h, w, 3) and the labels of the faces in it, in random order.
    """
    w, h = size
    canvas = _Canvas(draw_background(rng, size))
    staged = people is not None
    people = _arrange(rng, style, size) if people is None else people
    typical = (
        float(np.median([p.height for p in people]))
        if people
        else rng.uniform(20, 90) * min(w, h) / 360
    )
    for _ in range(int(rng.integers(1, 7))):
        spot = (rng.uniform(0, w), rng.uniform(0, 0.9 * h))
        canvas.paste(
            *draw_object(rng, spot, float(np.clip(typical * rng.uniform(0.3, 0.9), 5, 90)))
        )
    for _ in range(int(rng.integers(0, 4))):  # people seen from behind
        spot = (rng.uniform(0, w), rng.uniform(0.1, 0.6) * h)
        stranger = random_face(rng, spot, typical * rng.uniform(0.6, 1.1), True)
        patch, _, corner = draw_person(ToyFace(**{**vars(stranger), 'hair': 'back'}), h)
        canvas.paste(patch, corner)
    areas = []
    for number, face in enumerate(people, 1):
        patch, mask, corner = draw_person(face, h)
        canvas.paste(patch, corner, mask, number)
        areas.append(int(np.count_nonzero(mask)))
        if not staged and rng.random() < 0.1:  # an object in front of this face
            angle = rng.uniform(0, 2 * np.pi)
            reach = face.height * rng.uniform(0.3, 0.6)
            spot = (face.center[0] + reach * np.cos(angle), face.center[1] + reach * np.sin(angle))
            canvas.paste(*draw_object(rng, spot, face.height * rng.uniform(0.2, 0.4)))
    labels = [_label(face, k, areas[k - 1], canvas) for k, face in enumerate(people, 1)]
    kept = [label for label in labels if label is not None]
    return _finish(rng, canvas.image), [kept[k] for k in rng.permutation(len(kept))]
