# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Draw one person: shoulders, head, hair and the features of a :class:`ToyFace`."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.toys.faces import KEYPOINTS, NOSE_RISE, Array, Colour, ToyFace

_SHIFT = 4  # fractional bits of the coordinates handed to OpenCV


class _Brush:
    """Fill curves on a patch of premultiplied BGRA ``scale`` times finer than the image."""

    def __init__(self, corner: Array, size: tuple[int, int], scale: int) -> None:
        self.corner, self.scale = corner, scale
        self.patch = np.zeros((size[1] * scale, size[0] * scale, 4), np.uint8)

    def _fixed(self, points: Array) -> NDArray[np.int32]:
        pixels = (points - self.corner) * self.scale - 0.5  # OpenCV: pixel centres are integers
        return np.rint(pixels * (1 << _SHIFT)).astype(np.int32)

    def fill(self, points: Array, colour: Colour) -> None:
        value = (*(int(c) for c in colour), 255)
        cv2.fillPoly(self.patch, [self._fixed(points)], value, cv2.LINE_AA, _SHIFT)

    def line(self, points: Array, colour: Colour, width: float, closed: bool = False) -> None:
        value = (*(int(c) for c in colour), 255)
        thickness = max(1, round(width * self.scale))
        cv2.polylines(
            self.patch, [self._fixed(points)], closed, value, thickness, cv2.LINE_AA, _SHIFT
        )


@cache
def _circle(count: int) -> Array:
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


@cache
def _weights(points: int, count: int) -> Array:
    """Return weights (count, points) of 2 or 3 points along a line or parabola through them."""
    t = np.linspace(0, 1, count)
    if points == 2:
        return np.stack([1 - t, t], axis=1)
    return np.stack([(1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1)], axis=1)


def ellipse(center: tuple[float, float], radii: tuple[float, float], count: int = 20) -> Array:
    """Return points (count, 2) of an ellipse with horizontal and vertical radius."""
    return _circle(count) * radii + center


def _mix(colour: Colour, other: Colour, share: float) -> Colour:
    b, g, r = (round(c * (1 - share) + o * share) for c, o in zip(colour, other, strict=True))
    return b, g, r


def _curve(*points: tuple[float, float], count: int = 9) -> Array:
    """Return a curve (count, 2) through two or three points."""
    return _weights(len(points), count) @ np.array(points)


def _body(brush: _Brush, face: ToyFace) -> None:
    """Draw the hair behind the head, neck, trunk and legs."""
    c = face.colours
    if face.hair in ('long', 'scarf'):
        colour = c['extra'] if face.hair == 'scarf' else _mix(c['hair'], (0, 0, 0), 0.25)
        w = face.half_width + 0.2
        back = np.concatenate(
            [ellipse((0, -0.25), (w, 1.08))[10:], [(w + 0.03, 1.25), (-w - 0.03, 1.25)]]
        )
        brush.fill(face.around(back), colour)
    # Shoulders stay level, whatever the roll of the head.
    x, y = face.around(np.array([(0.0, 0.75)]))[0]
    u = face.unit
    neck = _mix(c['skin'], (20, 20, 40), 0.25)
    brush.fill(
        np.array([(-0.36, -0.2), (0.36, -0.2), (0.42, 0.75), (-0.42, 0.75)]) * u + (x, y), neck
    )
    trousers = _mix(c['extra'], (45, 40, 40), 0.7)
    for side in (-1, 1):
        leg = np.array([(0.02, 4.2), (1.25, 4.2), (1.05, 8.6), (0.3, 8.6)]) * (side, 1)
        brush.fill(leg * u + (x, y), trousers)
    torso = np.concatenate(
        [
            ellipse((0, 1.55), (1.62, 1.12))[10:],
            [(1.68, 3.2), (1.3, 4.5), (-1.3, 4.5), (-1.68, 3.2)],
        ]
    )
    brush.fill(torso * u + (x, y), c['shirt'])
    collar = _mix(c['shirt'], (255, 255, 255), 0.35)
    brush.line(_curve((-0.45, 0.5), (0, 0.95), (0.45, 0.5)) * u + (x, y), collar, 0.07 * u)


def _head(brush: _Brush, face: ToyFace) -> None:
    """Draw ears and skin."""
    skin = face.colours['skin']
    dark = _mix(skin, (20, 20, 60), 0.22)
    for side in (-1, 1):
        if side * face.yaw < 35 and face.hair != 'scarf':
            x = side * (face.half_width * 0.98) - 0.2 * np.sin(np.deg2rad(face.yaw))
            brush.fill(face.around(ellipse((x, 0.0), (0.12, 0.22))), dark)
    skull = ellipse((0, -0.3), (face.half_width * 0.99, 0.92), 32)
    brush.fill(face.around(skull), skin)
    brush.fill(face.outline(), skin)


def _back_of_head(brush: _Brush, face: ToyFace) -> None:
    """Draw the head of a person seen from behind: hair in place of the face."""
    hair = face.colours['hair']
    brush.fill(face.around(ellipse((0, -0.25), (face.half_width + 0.08, 1.02), 40)), hair)
    parting = _curve((0.05, -1.15), (-0.06, -0.8), (0.08, -0.4))
    brush.line(face.around(parting), _mix(hair, (0, 0, 0), 0.3), 0.05 * face.unit)


def _features(brush: _Brush, face: ToyFace) -> None:
    """Draw brows, eyes, nose, mouth and beard."""
    c, u = face.colours, face.unit
    skin, line = c['skin'], _mix(c['skin'], (10, 10, 45), 0.55)
    blush = _mix(skin, (90, 90, 235), 0.16)
    for side in (-1, 1):
        brush.fill(face.on_face(ellipse((side * 0.42, 0.22), (0.17, 0.13))), blush)
    if face.beard == 2:
        edge = face.on_face(_curve((-0.76, 0.1), (0, 0.72), (0.76, 0.1)))
        brush.fill(np.concatenate([edge, face.jaw()]), _mix(c['hair'], skin, 0.2))
    if face.beard:
        upper = np.concatenate(
            [_curve((-0.3, 0.5), (0, 0.33), (0.3, 0.5)), _curve((0.3, 0.5), (0, 0.46), (-0.3, 0.5))]
        )
        brush.fill(face.on_face(upper), c['hair'])
    for x, y in KEYPOINTS[:2]:
        side = np.sign(x)
        shade = _mix(skin, (30, 30, 80), 0.25)
        brush.fill(face.on_face(ellipse((x, y - 0.02), (0.21, 0.14))), shade)
        h = 0.085 * face.eye_open
        almond = np.concatenate(
            [
                _curve((x - 0.16, y), (x, y - 2 * h), (x + 0.16, y)),
                _curve((x + 0.16, y), (x, y + 1.1 * h), (x - 0.16, y)),
            ]
        )
        brush.fill(face.on_face(almond), (235, 238, 240))
        radius = min(0.085, 1.25 * h)
        brush.fill(face.on_face(ellipse((x, y - 0.3 * h), (0.085, radius), 12)), c['iris'])
        brush.fill(face.on_face(ellipse((x, y - 0.3 * h), (0.045, 0.6 * radius), 10)), (15, 12, 12))
        brush.line(face.on_face(almond[:9]), (25, 25, 40), 0.045 * u)
        if face.height > 60:
            brush.fill(
                face.on_face(ellipse((x - 0.025, y - 0.5 * h), (0.016, 0.016), 8)), (250, 250, 250)
            )
        brow = _curve(
            (x - 0.2, y - 0.2 - 0.02 * side), (x, y - 0.29), (x + 0.2, y - 0.2 + 0.02 * side)
        )
        brush.line(face.on_face(brow), _mix(c['hair'], skin, 0.15), 0.07 * u)
    _nose(brush, face, line)
    _mouth(brush, face, line)


def _nose(brush: _Brush, face: ToyFace, line: Colour) -> None:
    skin, u = face.colours['skin'], face.unit
    tip = face.on_face(KEYPOINTS[2], NOSE_RISE)
    bridge = face.on_face(np.array([(0.0, -0.18)]), 0.06)
    wings = face.on_face(np.array([(-0.15, 0.27), (0.15, 0.27)]), 0.05)
    dark_side = 0 if face.light[0] > 0 else 1
    brush.fill(np.concatenate([bridge, wings, tip]), _mix(skin, (235, 240, 250), 0.18))
    brush.fill(
        np.concatenate([bridge, wings[dark_side : dark_side + 1], tip]),
        _mix(skin, (20, 20, 60), 0.25),
    )
    under = face.on_face(_curve((-0.13, 0.3), (0, 0.36), (0.13, 0.3)), 0.06)
    brush.line(under, line, 0.05 * u)
    brush.fill(tip + ellipse((0, 0), (0.07 * u, 0.06 * u), 12), _mix(skin, (240, 245, 255), 0.25))
    for x in (-0.075, 0.075):
        brush.fill(face.on_face(ellipse((x, 0.315), (0.04, 0.025), 8), 0.1), line)


def _mouth(brush: _Brush, face: ToyFace, line: Colour) -> None:
    if face.mask:
        edge = face.on_face(_curve((-0.76, 0.12), (0, -0.04), (0.76, 0.12)), 0.08)
        brush.fill(np.concatenate([edge, face.jaw()]), face.colours['extra'])
        for y in (0.35, 0.55):
            fold = _mix(face.colours['extra'], (0, 0, 0), 0.15)
            brush.line(
                face.on_face(_curve((-0.5, y), (0, y + 0.05), (0.5, y)), 0.08),
                fold,
                0.03 * face.unit,
            )
        return
    lips = face.colours['lips']
    w, y = 0.27 * (1 + 0.15 * face.smile), 0.53
    corner = y - 0.07 * face.smile
    sag = 0.1 * face.smile
    gap = 0.2 * face.mouth_open
    upper = np.concatenate(
        [
            _curve((-w, corner), (0, y - 0.09 + sag * 0.5), (w, corner)),
            _curve((w, corner), (0, y + sag * 0.6), (-w, corner)),
        ]
    )
    lower = np.concatenate(
        [
            _curve((-w, corner), (0, y + gap + sag), (w, corner)),
            _curve((w, corner), (0, y + 0.14 + gap + sag), (-w, corner)),
        ]
    )
    if gap > 0.02:
        inside = np.concatenate([upper[:9], lower[9:]])
        brush.fill(face.on_face(inside), (25, 20, 70))
        teeth = np.concatenate(
            [
                _curve((-w * 0.85, corner + 0.01), (0, y + sag * 0.6), (w * 0.85, corner + 0.01)),
                _curve(
                    (w * 0.85, corner + 0.01),
                    (0, y + sag * 0.8 + gap * 0.5),
                    (-w * 0.85, corner + 0.01),
                ),
            ]
        )
        brush.fill(face.on_face(teeth), (232, 238, 240))
    brush.fill(face.on_face(lower), lips)
    brush.fill(face.on_face(upper), _mix(lips, (20, 10, 60), 0.25))
    if gap <= 0.02:
        brush.line(
            face.on_face(_curve((-w, corner), (0, y + sag * 0.8), (w, corner))),
            line,
            0.035 * face.unit,
        )


def _hair(brush: _Brush, face: ToyFace) -> None:
    """Draw hair or hat in front of the forehead, and glasses."""
    c, u = face.colours, face.unit
    top = ellipse((0, -0.28), (face.half_width + 0.1, 1.04), 40)
    side = np.sin(np.deg2rad(face.yaw))

    def cap(line: Array, low: float, colour: Colour) -> None:
        """Fill between the top of the skull, down to ``low``, and a hairline."""
        arc = top[top[:, 1] < low]
        arc = arc[
            np.argsort(np.arctan2(arc[:, 0], -0.28 - arc[:, 1]))
        ]  # left to right over the top
        brush.fill(np.concatenate([face.around(arc), line[::-1]]), colour)

    if face.hair in ('short', 'long', 'fringe'):
        height = {'short': -0.66, 'long': -0.74, 'fringe': -0.42}[face.hair]
        ends = -0.1 if face.hair == 'short' else 0.25
        hairline = np.concatenate(
            [
                _curve((-0.80, ends), (-0.66, (height + ends) / 2 - 0.1), (-0.5, height + 0.06)),
                _curve((-0.5, height + 0.06), (0.1, height - 0.05), (0.5, height + 0.06)),
                _curve((0.5, height + 0.06), (0.66, (height + ends) / 2 - 0.1), (0.80, ends)),
            ]
        )
        cap(face.on_face(hairline), ends, c['hair'])
        shine = _mix(c['hair'], (255, 255, 255), 0.22)
        brush.line(
            face.around(_curve((-0.45, -0.95), (-0.1, -1.16), (0.3, -1.08))), shine, 0.06 * u
        )
    elif face.hair == 'scarf':
        hairline = _curve((-0.78, 0.1), (0, -0.8), (0.78, 0.1), count=15)
        cap(face.on_face(hairline), 0.1, c['extra'])
        w = face.half_width
        outer = face.around(_curve((-w - 0.12, 0.1), (0.1 * side, 2.3), (w + 0.12, 0.1), count=15))
        brush.fill(np.concatenate([outer, face.jaw()]), c['extra'])
    elif face.hair == 'cap':
        cap(face.on_face(_curve((-0.8, -0.5), (0, -0.66), (0.8, -0.5), count=15)), -0.4, c['extra'])
        brim = np.concatenate(
            [
                _curve((-0.66, -0.58), (0, -0.76), (0.66, -0.58)),
                _curve((0.66, -0.58), (0, -0.42), (-0.66, -0.58)),
            ]
        )
        brush.fill(face.on_face(brim, 0.25), _mix(c['extra'], (0, 0, 0), 0.35))
    if face.glasses == 'none':
        return
    for x, y in KEYPOINTS[:2]:
        lens = face.on_face(ellipse((x, y + 0.02), (0.25, 0.19)), 0.1)
        if face.glasses == 'dark':
            brush.fill(lens, (30, 25, 25))
        brush.line(lens, (35, 30, 40), 0.045 * u, closed=True)
    brush.line(
        face.on_face(_curve((-0.1, -0.16), (0.1, -0.16), count=3), 0.12), (35, 30, 40), 0.05 * u
    )


def _shade(patch: NDArray[np.float32], corner: Array, face: ToyFace) -> None:
    """Darken the patch on the side away from the light.

    The shade is smooth, so a coarse grid is enough.
    """
    size = 24
    h, w = patch.shape[:2]
    gx, gy = np.meshgrid((np.arange(size) + 0.5) / size * w, (np.arange(size) + 0.5) / size * h)
    x = (gx + corner[0] - face.center[0]) / face.unit
    y = (gy + corner[1] - face.center[1]) / face.unit
    lx, ly, contrast = face.light
    toward = np.clip((x * lx + np.clip(y, -1.3, 1.3) * ly) / np.hypot(lx, ly), -1.2, 1.2)
    edge = np.clip(np.hypot(x / (face.half_width + 0.1), y / 1.15), 0, 1.1) ** 3
    shade = face.exposure * (1 + contrast * (0.45 * toward - 0.3 * edge))
    full = cv2.resize(shade.astype(np.float32), (w, h), interpolation=cv2.INTER_LINEAR)
    patch[..., :3] *= full[..., None]
    np.minimum(patch[..., :3], patch[..., 3:], out=patch[..., :3])


def draw_person(
    face: ToyFace, bottom: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[int, int]]:
    """Draw one person.

    Args:
        face: Geometry and appearance of the person.
        bottom: Height of the image; nothing is drawn below it.

    Returns:
        The patch (h, w, 4) of premultiplied BGRA, 0 to 255, at image resolution; a mask (h2, w)
        of the pixels that belong to the face, with h2 >= h so that it includes the chin even
        below ``bottom``; and the image coordinates (x, y) of the upper left pixel of the patch,
        which may be outside of the image.
    """
    u = face.unit
    corner = np.floor(np.array(face.center) - (1.95 * u, 1.7 * u) - 2)
    room = max(8, bottom - int(corner[1]))
    size = (int(np.ceil(3.9 * u)) + 4, min(room, int(np.ceil(11 * u)) + 4))
    scale = int(np.clip(np.ceil(72 / face.height), 1, 8)) if face.height < 150 else 1
    brush = _Brush(corner, size, scale)
    _body(brush, face)
    _head(brush, face)
    if face.hair == 'back':
        _back_of_head(brush, face)
    else:
        _features(brush, face)
        _hair(brush, face)
    art = brush.patch
    if scale > 1:
        art = cv2.resize(art, size, interpolation=cv2.INTER_AREA)
    patch = np.asarray(art, np.float32)
    _shade(patch, corner, face)
    sigma = face.blur * face.height
    if sigma > 0.2:
        patch = np.asarray(cv2.GaussianBlur(patch, (0, 0), sigma), np.float32)
    oval = np.zeros((max(size[1], int(3 * u) + 4), size[0]), np.uint8)
    fixed = np.round((face.outline() - corner - 0.5) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(oval, [fixed], 1, cv2.LINE_8, _SHIFT)
    return patch, oval.astype(bool), (int(corner[0]), int(corner[1]))
