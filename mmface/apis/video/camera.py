# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read a camera with OpenCV."""

from __future__ import annotations

import time
from collections.abc import Iterator

import cv2
import numpy as np

from mmface.apis.video.base import DEFAULT_FPS, Frame, VideoSource


class Camera(VideoSource):
    """The frames of a camera, with the times at which they arrive.

    Args:
        number: Number of the camera.

    Raises:
        ValueError: OpenCV cannot open the camera.
    """

    live = True

    def __init__(self, number: int) -> None:
        self.name = f'camera {number}'
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise ValueError(
                f'{self.name} cannot be opened: check that it is plugged in (Linux: ls '
                '/dev/video*), that no other program uses it and that you have permission to '
                'read it'
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else DEFAULT_FPS
        self.size = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the frames until the camera ends.

        Raises:
            ValueError: The camera has no frames.
        """
        number, start = 0, None
        while True:
            there, image = self._capture.read()
            if not there:
                break
            now = time.monotonic()
            start = now if start is None else start
            yield Frame(number, now - start, np.asarray(image, np.uint8))
            number += 1
        if not number:
            raise ValueError(f'{self.name} has no frames')

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()
