# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read and write videos frame by frame; no torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np

from mmface.utils.files import whole_file
from mmface.utils.images import Image, PathLike

#: Frames per second where a camera or a file does not say.
DEFAULT_FPS = 25.0


class Frame(NamedTuple):
    """An image of a video.

    Attributes:
        number: From 0.
        seconds: When it was taken, from the start of the video.
        image: (H, W, 3) BGR.
    """

    number: int
    seconds: float
    image: Image


class VideoReader:
    """The frames of a video file or a camera.

    Args:
        source: A file, or the number of a camera.

    Attributes:
        live: Whether it is a camera, which has no end.
        fps: Frames per second.
        size: Width and height in pixels.
        total: Number of frames as the file says, which may be wrong; ``None``: not known.

    Raises:
        ValueError: OpenCV cannot open it.
    """

    def __init__(self, source: PathLike | int) -> None:
        self.live = isinstance(source, int)
        self.name = f'camera {source}' if self.live else str(source)
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened():
            raise ValueError(
                f'{self.name} cannot be opened: '
                + (
                    'see that it is plugged in (Linux: ls /dev/video*), that no other program '
                    'uses it and that you may read it'
                    if self.live
                    else 'it is no video, cut short, or of a kind that OpenCV here does not know'
                )
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else DEFAULT_FPS
        self.size = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        total = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.total = total if total > 0 and not self.live else None

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the frames, once.

        Raises:
            ValueError: There is not a single one.
        """
        number, start = 0, time.monotonic()
        while True:
            there, image = self._capture.read()
            if not there:
                break
            seconds = time.monotonic() - start if self.live else number / self.fps
            yield Frame(number, seconds, np.asarray(image, np.uint8))
            number += 1
        if not number:
            raise ValueError(f'{self.name} gives no frame')

    def close(self) -> None:
        """Give the file or camera back."""
        self._capture.release()


class VideoWriter:
    """Write an mp4 file (MPEG-4, without sound); made by ``open_video``."""

    def __init__(self, path: PathLike, fps: float, size: tuple[int, int]) -> None:
        self._fps, self._size = fps, size
        self.written = 0
        code = cv2.VideoWriter.fourcc(*'mp4v')
        self._writer = cv2.VideoWriter(str(path), code, fps, size)
        if not self._writer.isOpened():
            raise OSError(
                f'{path} cannot be written as a video of {size[0]}x{size[1]} pixels at {fps:g} '
                'frames per second'
            )

    def write(self, frame: Frame) -> None:
        """Write a frame, so often that the video keeps the pace of the clock.

        Images of a slow camera are repeated, those that come too quickly left out.
        """
        image = frame.image
        if image.shape[1::-1] != self._size:  # some streams change; the file cannot
            image = np.asarray(cv2.resize(image, self._size), np.uint8)
        for _ in range(round(frame.seconds * self._fps) + 1 - self.written):
            self._writer.write(image)
            self.written += 1

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()


@contextmanager
def open_video(path: PathLike, fps: float, size: tuple[int, int]) -> Iterator[VideoWriter]:
    """Write an mp4 file, whole or not at all.

    Args:
        path: Where it is when the block has ended without an exception.
        fps: Frames per second.
        size: Width and height in pixels.

    Yields:
        What frames are written to.

    Raises:
        OSError: It cannot be written.
    """
    with whole_file(path) as tmp:
        writer = VideoWriter(tmp, fps, size)
        try:
            yield writer
        finally:
            writer.close()
        # OpenCV says nothing when the disk is full.
        check = cv2.VideoCapture(str(tmp))
        frames = int(check.get(cv2.CAP_PROP_FRAME_COUNT))
        check.release()
        if frames < writer.written:
            raise OSError(
                f'{path}: only {max(frames, 0)} of {writer.written} frames could be written; is '
                'the disk full?'
            )
