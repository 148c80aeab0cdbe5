# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Draw backgrounds and objects that a detector must not mistake for a face."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Rng = np.random.Generator

SKINS = (
    (172, 196, 236),
    (150, 180, 228),
    (128, 160, 214),
    (100, 135, 192),
    (78, 110, 165),
    (58, 84, 132),
    (44, 62, 98),
)  # BGR, light to dark
_WORDS = (
    'SALE',
    'OPEN',
    'EXIT',
    'No 7',
    'TAXI',
    'VOTE',
    'CAFE',
    '24h',
    'STOP',
    'Bank',
    '2nd Ave',
    'KIOSK',
)


def random_colour(rng: Rng, low: int = 20, high: int = 235) -> tuple[int, int, int]:
    """Draw a random BGR colour with independent channels in [low, high)."""
    b, g, r = (int(v) for v in rng.integers(low, high, 3))
    return b, g, r


def _noise(rng: Rng, size: tuple[int, int], cells: int, channels: int = 1) -> Image:
    """Draw smooth noise (h, w, channels) with blobs of about 1/cells of the image height."""
    w, h = size
    grid = rng.normal(size=(cells + 1, max(2, cells * w // h) + 1, channels)).astype(np.float32)
    return cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC).reshape(h, w, channels)


def _gradient(rng: Rng, size: tuple[int, int]) -> Image:
    w, h = size
    ends = [np.array(random_colour(rng), np.float32) for _ in range(2)]
    ends = [0.4 * end + 0.6 * end.mean() for end in ends]  # real walls and skies have dull colours
    share = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    if rng.random() < 0.3:
        share = np.linspace(0, 1, w, dtype=np.float32)[None, :, None]
    return np.ascontiguousarray(np.broadcast_to(ends[0] * (1 - share) + ends[1] * share, (h, w, 3)))


def _street(rng: Rng, image: Image) -> None:
    """Draw houses with rows of windows above a road."""
    h, w = image.shape[:2]
    floor = int(h * rng.uniform(0.45, 0.75))
    x = 0
    while x < w:
        width = int(rng.uniform(0.1, 0.3) * w)
        top = int(rng.uniform(0, 0.35) * h)
        wall, glass = random_colour(rng, 60, 210), random_colour(rng, 30, 200)
        cv2.rectangle(image, (x, top), (x + width, floor), wall, -1)
        step = max(10, int(width / rng.integers(3, 7)))
        for wy in range(top + step // 2, floor - step // 2, step):
            for wx in range(x + step // 3, x + width - step // 2, step):
                cv2.rectangle(
                    image,
                    (wx, wy),
                    (wx + step // 2, wy + int(step * 0.6)),
                    glass,
                    -1,
                    cv2.LINE_AA,
                )
        x += width
    cv2.rectangle(image, (0, floor), (w, h), random_colour(rng, 60, 150), -1)


def _wall(rng: Rng, image: Image) -> None:
    """Draw bricks or panels."""
    h, w = image.shape[:2]
    colour = np.array(random_colour(rng, 50, 200))
    bw, bh = int(rng.integers(24, 90)), int(rng.integers(12, 60))
    for row, y in enumerate(range(0, h, bh)):
        for x in range(-(row % 2) * bw // 2, w, bw):
            shade = np.clip(colour + rng.normal(0, 10), 0, 255).tolist()
            cv2.rectangle(image, (x + 1, y + 1), (x + bw - 2, y + bh - 2), shade, -1)


def _leaves(rng: Rng, image: Image) -> None:
    h, w = image.shape[:2]
    hue = np.array([rng.uniform(20, 80), rng.uniform(80, 170), rng.uniform(30, 140)])
    for _ in range(260):
        center = (int(rng.integers(0, w)), int(rng.integers(0, h)))
        axes = (int(rng.integers(4, 22)), int(rng.integers(3, 12)))
        colour = np.clip(hue * rng.uniform(0.4, 1.4), 0, 255).tolist()
        cv2.ellipse(
            image, center, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA
        )


def _lights(rng: Rng, image: Image) -> None:
    """Draw out-of-focus lamps on a dark scene."""
    image *= 0.35
    h, w = image.shape[:2]
    for _ in range(int(rng.integers(15, 45))):
        center = (int(rng.integers(0, w)), int(rng.integers(0, h)))
        glow = np.zeros_like(image)
        cv2.circle(
            glow, center, int(rng.integers(5, 26)), random_colour(rng, 60, 255), -1, cv2.LINE_AA
        )
        image += glow * np.float32(rng.uniform(0.25, 0.7))


def _shapes(rng: Rng, image: Image) -> None:
    """Draw overlapping rectangles, ellipses and stripes, like posters and furniture."""
    h, w = image.shape[:2]
    for _ in range(int(rng.integers(8, 26))):
        x, y = int(rng.integers(0, w)), int(rng.integers(0, h))
        a, b = int(rng.integers(8, w // 4)), int(rng.integers(8, h // 4))
        kind = rng.integers(3)
        if kind == 0:
            cv2.rectangle(image, (x, y), (x + a, y + b), random_colour(rng), -1)
        elif kind == 1:
            cv2.ellipse(
                image,
                (x, y),
                (a // 2, b // 2),
                float(rng.uniform(0, 180)),
                0,
                360,
                random_colour(rng),
                -1,
            )
        else:
            end = (x + int(rng.integers(-w // 2, w // 2)), y + int(rng.integers(-h // 2, h // 2)))
            cv2.line(image, (x, y), end, random_colour(rng), int(rng.integers(2, 16)), cv2.LINE_AA)


def draw_background(rng: Rng, size: tuple[int, int]) -> Image:
    """Draw a background.

    Args:
        rng: Source of all random choices.
        size: Width and height, pixels.

    Returns:
        BGR image (h, w, 3), 0 to 255, with texture and uneven light.
    """
    image = _gradient(rng, size)
    kind = rng.integers(6)
    if kind < 5:
        (_street, _wall, _leaves, _lights, _shapes)[kind](rng, image)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.7, 3.5))
    for cells, weight in ((4, 14), (16, 7), (60, 5)):
        image += _noise(rng, size, cells, 3 if cells < 10 else 1) * rng.uniform(0.2, 1) * weight
    return np.clip(image, 0, 255).astype(np.float32)


def _ball(rng: Rng, art: NDArray[np.uint8], r: int) -> None:
    colour = SKINS[rng.integers(len(SKINS))] if rng.random() < 0.4 else random_colour(rng)
    center = (2 * r, 2 * r)
    cv2.circle(art, center, r, (*colour, 255), -1, cv2.LINE_AA)
    for k in range(1, 6):  # towards the highlight, in steps
        lit = [min(255, int(c + k * 14)) for c in colour]
        spot = (2 * r - int(0.07 * k * r), 2 * r - int(0.07 * k * r))
        cv2.circle(art, spot, int(r * (0.85 - 0.15 * k)), (*lit, 255), -1, cv2.LINE_AA)
    if rng.random() < 0.5:
        cv2.ellipse(
            art,
            center,
            (r, r // 3),
            float(rng.uniform(0, 180)),
            0,
            180,
            (30, 30, 40, 255),
            max(1, r // 14),
            cv2.LINE_AA,
        )


def _hand(rng: Rng, art: NDArray[np.uint8], r: int) -> None:
    """Draw an arm, a palm and fingers in a skin colour."""
    skin = (*SKINS[rng.integers(len(SKINS))], 255)
    turn = rng.uniform(-0.7, 0.7)
    center = np.array((2 * r, 2 * r))

    def point(angle: float, reach: float) -> tuple[int, int]:
        x, y = center + reach * r * np.array((np.sin(angle + turn), -np.cos(angle + turn)))
        return int(x), int(y)

    cv2.line(art, point(np.pi, 0.2), point(np.pi, 1.9), skin, max(1, int(0.55 * r)), cv2.LINE_AA)
    cv2.ellipse(
        art,
        point(0, 0.1),
        (int(0.42 * r), int(0.5 * r)),
        float(np.rad2deg(turn)),
        0,
        360,
        skin,
        -1,
        cv2.LINE_AA,
    )
    for angle in (-0.95, -0.36, -0.12, 0.12, 0.36):
        cv2.line(
            art,
            point(angle, 0.3),
            point(angle, 1.05 - 0.4 * (angle < -0.5)),
            skin,
            max(1, int(0.16 * r)),
            cv2.LINE_AA,
        )


def _clock(rng: Rng, art: NDArray[np.uint8], r: int) -> None:
    """Draw a disc with a rim and marks, like a clock or a wheel."""
    center = (2 * r, 2 * r)
    rim = (*random_colour(rng, 10, 160), 255)
    cv2.circle(art, center, r, (*random_colour(rng, 120, 250), 255), -1, cv2.LINE_AA)
    cv2.circle(art, center, int(0.92 * r), rim, max(1, r // 7), cv2.LINE_AA)
    for angle in np.arange(12) * np.pi / 6:
        way = np.array((np.sin(angle), -np.cos(angle)))
        a, b = (tuple(np.round(way * r * k + 2 * r).astype(int).tolist()) for k in (0.68, 0.8))
        cv2.line(art, a, b, rim, max(1, r // 14), cv2.LINE_AA)
    for angle, reach in zip(rng.uniform(0, 2 * np.pi, 2), (0.45, 0.65), strict=True):
        tip = (int(2 * r + reach * r * np.sin(angle)), int(2 * r - reach * r * np.cos(angle)))
        cv2.line(art, center, tip, rim, max(1, r // 12), cv2.LINE_AA)


def _sign(rng: Rng, art: NDArray[np.uint8], r: int) -> None:
    """Draw a board with text on a pole."""
    word = _WORDS[rng.integers(len(_WORDS))]
    cv2.line(art, (2 * r, 2 * r), (2 * r, 4 * r), (70, 75, 80, 255), max(1, r // 6), cv2.LINE_AA)
    cv2.rectangle(
        art,
        (int(0.7 * r), int(1.4 * r)),
        (int(3.3 * r), int(2.5 * r)),
        (*random_colour(rng, 90, 250), 255),
        -1,
    )
    font, scale = cv2.FONT_HERSHEY_DUPLEX, 0.035 * r
    width = cv2.getTextSize(word, font, scale, 1)[0][0]
    scale *= min(1.0, 2.3 * r / width)
    origin = (int(0.85 * r), int(2.2 * r))
    cv2.putText(
        art,
        word,
        origin,
        font,
        scale,
        (*random_colour(rng, 0, 110), 255),
        max(1, r // 10),
        cv2.LINE_AA,
    )


def _balloon(rng: Rng, art: NDArray[np.uint8], r: int) -> None:
    colour = random_colour(rng)
    cv2.line(
        art, (2 * r, 3 * r), (2 * r + int(0.3 * r), 4 * r), (200, 200, 200, 255), 1, cv2.LINE_AA
    )
    cv2.ellipse(art, (2 * r, 2 * r), (int(0.85 * r), r), 0, 0, 360, (*colour, 255), -1, cv2.LINE_AA)
    lit = [min(255, c + 70) for c in colour]
    cv2.ellipse(
        art,
        (int(1.7 * r), int(1.6 * r)),
        (r // 6, r // 4),
        30,
        0,
        360,
        (*lit, 255),
        -1,
        cv2.LINE_AA,
    )


_OBJECTS = (_ball, _hand, _clock, _sign, _balloon)


def draw_object(
    rng: Rng, center: tuple[float, float], radius: float
) -> tuple[Image, tuple[int, int]]:
    """Draw a ball, hand, clock, sign or balloon.

    Args:
        rng: Source of all random choices.
        center: Centre in the image (x, y), pixels.
        radius: About half the size of the object, pixels.

    Returns:
        The patch (s, s, 4) of premultiplied BGRA, 0 to 255, and the image coordinates
        (x, y) of its upper left pixel.
    """
    side = int(np.ceil(4 * radius))
    r = max(12, side // 2) if radius < 40 else side // 4  # draw small objects at a finer scale
    art = np.zeros((4 * r, 4 * r, 4), np.uint8)
    _OBJECTS[rng.integers(len(_OBJECTS))](rng, art, r)
    patch = cv2.resize(art, (side, side), interpolation=cv2.INTER_AREA)
    light = rng.uniform(0.6, 1.1)
    patch[..., :3] = np.minimum(patch[..., :3] * light, patch[..., 3:]).astype(np.uint8)
    return patch.astype(np.float32), (round(center[0] - side / 2), round(center[1] - side / 2))
