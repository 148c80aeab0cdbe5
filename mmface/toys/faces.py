# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Geometry and appearance of one drawn face, with exactly known box and keypoints.

The head is an ellipsoid in "head units": the face is about 2 high (forehead -0.95 to
chin +1), x points to the right of the image, y down and z to the camera. Eyes, nose,
mouth, brows and so on are curves on its surface. Yaw and pitch rotate them in 3D, the
projection is orthographic, and roll rotates the result in the image. Image coordinates
are continuous: pixel i covers [i, i + 1), as for boxes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Colour = tuple[int, int, int]  # BGR

_DEPTH = 0.86  # half axis of the head towards the camera, head units
# Eyes, nose tip and mouth corners on the face, head units. Left is left in the image.
KEYPOINTS = np.array([[-0.34, -0.16], [0.34, -0.16], [0.0, 0.24], [-0.27, 0.53], [0.27, 0.53]])
NOSE_RISE = 0.22  # height of the nose tip above the ellipsoid, head units
_TURN = np.linspace(0, 2 * np.pi, 65)[:-1]


@dataclass(frozen=True)
class ToyFace:
    """Geometry and appearance of one drawn person.

    Attributes:
        center: Centre of the head in the image (x, y), pixels.
        height: Height of the upright face from forehead to chin, pixels.
        yaw: Degrees; positive looks to the right of the image.
        pitch: Degrees; positive looks down.
        roll: Degrees in the image; positive rotates clockwise.
        width: Half width of the face, head units.
        colours: BGR of ``skin``, ``hair``, ``iris``, ``lips``, ``shirt`` and ``extra`` (hat,
            scarf, mask, trousers).
        hair: One of ``bald``, ``short``, ``long``, ``fringe``, ``cap``, ``scarf``, or ``back``
            for a person seen from behind (no face).
        glasses: ``none``, ``clear`` or ``dark``.
        beard: 0 none, 1 moustache, 2 full beard.
        mask: Whether a mask covers nose and mouth.
        smile: Lift of the mouth corners, -1 to 1.
        mouth_open: 0 (closed) to 1 (wide open).
        eye_open: 0.15 (nearly shut) to 1.
        light: Direction (x, y) of the light source and contrast 0 to 1.
        exposure: Factor on all colours.
        blur: Standard deviation of the blur, in face heights.
    """

    center: tuple[float, float]
    height: float
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    width: float = 0.76
    colours: dict[str, Colour] = field(default_factory=dict)
    hair: str = 'short'
    glasses: str = 'none'
    beard: int = 0
    mask: bool = False
    smile: float = 0.0
    mouth_open: float = 0.0
    eye_open: float = 0.8
    light: tuple[float, float, float] = (-0.5, -0.5, 0.4)
    exposure: float = 1.0
    blur: float = 0.0

    @cached_property
    def unit(self) -> float:
        """Return the number of pixels of one head unit (the face is 1.95 head units high)."""
        return self.height / 1.95

    def _turn(self, points: Array, rise: float = 0.0) -> Array:
        """Rotate points on the face (n, 2) in 3D; return (n, 3), head units."""
        x, y = points[:, 0], points[:, 1]
        inside = 1 - (x / (self.width + 0.04)) ** 2 - (y / 1.1) ** 2
        z = _DEPTH * np.sqrt(np.clip(inside, 0, None)) + rise
        return np.stack([x, y, z], axis=1) @ self._turning

    @cached_property
    def _turning(self) -> Array:
        """Return the matrix (3, 3) that applies yaw, then pitch, to row vectors."""
        (sy, sp), (cy, cp) = (f(np.deg2rad((self.yaw, self.pitch))) for f in (np.sin, np.cos))
        yaw = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        return yaw @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])

    @cached_property
    def _rolling(self) -> Array:
        """Return the matrix (2, 2) from head units to pixels for row vectors."""
        roll = np.deg2rad(self.roll)
        turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        return turn * self.unit

    def _place(self, flat: Array) -> Array:
        """Convert head units after 3D rotation (n, 2) to image pixels (n, 2)."""
        return flat @ self._rolling + self.center

    def on_face(self, points: Array, rise: float = 0.0) -> Array:
        """Return image coordinates (n, 2) of points on the face (n, 2), head units.

        Points on the side away from the camera are moved to the outline of the head.
        """
        turned = self._turn(np.atleast_2d(points), rise)
        hidden = turned[:, 2] < 0
        reach = np.hypot(turned[:, 0] / self.half_width, turned[:, 1] / 1.1)
        turned[hidden, :2] /= np.clip(reach[hidden], 1e-6, None)[:, None]
        return self._place(turned[:, :2])

    def around(self, points: Array) -> Array:
        """Return image coordinates (n, 2) of points behind the face, which follow only the roll."""
        return self._place(np.atleast_2d(points))

    @cached_property
    def half_width(self) -> float:
        """Return half the width of the rotated head, head units."""
        yaw = np.deg2rad(self.yaw)
        return float(np.hypot(self.width * np.cos(yaw), _DEPTH * np.sin(yaw)))

    def outline(self) -> Array:
        """Return the outline of the face, forehead to chin, in the image (64, 2)."""
        lower = np.clip(-np.cos(_TURN), 0, None)
        x = self.half_width * np.sin(_TURN) * (1 - 0.16 * lower**2)
        y = np.where(np.cos(_TURN) > 0, -0.95, -1.0) * np.cos(_TURN)
        x = x + 0.22 * np.sin(np.deg2rad(self.yaw)) * lower  # the chin points where the face looks
        y = y + 0.15 * np.sin(np.deg2rad(self.pitch)) * np.abs(np.cos(_TURN))
        return self._place(np.stack([x, y], axis=1))

    def jaw(self) -> Array:
        """Return the part of the outline below the nose, right to left over the chin (n, 2)."""
        outline = self.outline()
        return outline[np.sin(_TURN - np.pi / 2) > -0.12]

    def box(self) -> Array:
        """Return the face box xyxy (4,), image pixels, not clipped to the image."""
        outline = self.outline()
        return np.concatenate([outline.min(axis=0), outline.max(axis=0)])

    def keypoints(self) -> tuple[Array, NDArray[np.bool_]]:
        """Compute left eye, right eye, nose tip and mouth corners.

        Returns:
            Points (5, 2) in the image, and whether each point faces the camera (5,).
        """
        points = KEYPOINTS.copy()
        points[3:, 1] -= 0.07 * self.smile
        points[3:, 0] *= 1 + 0.15 * self.smile
        rise = np.array([0, 0, NOSE_RISE, 0, 0])
        placed = np.stack([self.on_face(p, r)[0] for p, r in zip(points, rise, strict=True)])
        return placed, self._turn(points)[:, 2] > 0.12
