# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What videos, animated images and cameras have in common, and how to open each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from mmface.utils.images import Image

#: Frames per second if the camera or file does not report a usable value.
DEFAULT_FPS = 25.0


class Frame(NamedTuple):
    """An image of a video.

    Attributes:
        number: Index of the frame, from 0.
        seconds: Time of the frame from the start of the video.
        image: (H, W, 3) BGR, upright.
        duration: How long the frame is shown, in seconds. ``None``: until the next frame.
    """

    number: int
    seconds: float
    image: Image
    duration: float | None = None


class VideoSource(ABC):
    """The frames of a video, an animated image or a camera.

    Attributes:
        name: For messages.
        live: Whether the source is a camera, which has no end.
        fps: Frames per second; the mean if the frames are not evenly spaced.
        size: Width and height of the first frame in pixels, upright.
        aspect: Width of a pixel divided by its height.
        total: Number of frames that the file reports, which may be wrong. ``None``: not known.
        damaged: Number of damaged frames that were met so far.
        sound: The file whose sound belongs to the frames, ``None`` if there is no sound.
        start: Time stamp in ``sound`` of the start of the video, in seconds.
    """

    name: str
    live = False
    fps = DEFAULT_FPS
    size: tuple[int, int]
    aspect = Fraction(1)
    total: int | None = None
    damaged = 0
    sound: Path | None = None
    start = 0.0

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the frames. This works once.

        Raises:
            ValueError: The source has no frames.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the file or camera."""
