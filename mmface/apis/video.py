# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read and write videos frame by frame. Torch is not needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np

from mmface.utils.files import whole_file
from mmface.utils.images import Image, PathLike

#: Frames per second if the camera or file does not report a usable value.
DEFAULT_FPS = 25.0


class Frame(NamedTuple):
    """An image of a video.

    Attributes:
        number: Index of the frame, from 0.
        seconds: Time of the frame from the start of the video.
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
        live: Whether the source is a camera, which has no end.
        fps: Frames per second.
        size: Width and height in pixels.
        total: Number of frames that the file reports, which may be wrong. ``None``: not known.

    Raises:
        ValueError: OpenCV cannot open the source.
    """

    def __init__(self, source: PathLike | int) -> None:
        self.live = isinstance(source, int)
        self.name = f'camera {source}' if self.live else str(source)
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened():
            raise ValueError(
                f'{self.name} cannot be opened: '
                + (
                    'check that it is plugged in (Linux: ls /dev/video*), that no other program '
                    'uses it and that you have permission to read it'
                    if self.live
                    else 'it is not a video, is cut short, or has a format that OpenCV cannot read'
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
        """Iterate over the frames. This works once.

        Raises:
            ValueError: The source has no frames.
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
            raise ValueError(f'{self.name} has no frames')

    def close(self) -> None:
        """Release the file or camera."""
        self._capture.release()


class VideoWriter:
    """Writes an mp4 file (MPEG-4, without sound). Create it with ``open_video``."""

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
        """Write a frame as often as needed to keep the video in real time.

        Frames of a slow camera are repeated. Frames that come too quickly are skipped.
        """
        image = frame.image
        if image.shape[1::-1] != self._size:  # some streams change size; a file cannot
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
        path: The file. It exists only after the block has ended without an exception.
        fps: Frames per second.
        size: Width and height in pixels.

    Yields:
        The writer for the frames.

    Raises:
        OSError: The file cannot be written.
    """
    with whole_file(path) as tmp:
        writer = VideoWriter(tmp, fps, size)
        try:
            yield writer
        finally:
            writer.close()
        # OpenCV reports no error when the disk is full.
        check = cv2.VideoCapture(str(tmp))
        frames = int(check.get(cv2.CAP_PROP_FRAME_COUNT))
        check.release()
        if frames < writer.written:
            raise OSError(
                f'{path}: only {max(frames, 0)} of {writer.written} frames could be written; is '
                'the disk full?'
            )
