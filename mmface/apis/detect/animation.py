# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read animated GIF, PNG, WebP and AVIF files as videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmface.apis.video import Frame, VideoReader
from mmface.utils.file_kinds import kind_of
from mmface.utils.image_decoding import exif_orientation, turn
from mmface.utils.images import PathLike
from mmface.utils.pillow import open_image, to_bgr

#: Browsers show frames of less than 20 ms for 100 ms. Times in milliseconds.
MIN_DURATION, DEFAULT_DURATION = 20, 100


class AnimationReader:
    """The frames of an animated image, with the interface of ``VideoReader``.

    FFmpeg does not decode animated WebP and reads only the first frame of animated AVIF, so the
    frames come from Pillow.

    Args:
        path: The file.

    Attributes:
        live: False.
        name: The path.
        fps: Mean number of frames per second.
        size: Width and height in pixels.
        total: Number of frames.

    Raises:
        OSError: The file cannot be read, or it is not an image.
        ValueError: The same.
    """

    live = False

    def __init__(self, path: PathLike) -> None:
        self.name = str(path)
        self._image = open_image(path)
        width, height = self._image.size
        self._orientation = exif_orientation(self._image)
        self.size = (height, width) if self._orientation > 4 else (width, height)
        # The first image of an APNG file may be a fallback that is not part of the animation.
        self._first = 1 if self._image.info.get('default_image') else 0
        frames = range(self._first, getattr(self._image, 'n_frames', 1))
        self._starts = [0.0]
        for number in frames:
            self._image.seek(number)
            if self._image.format in ('WEBP', 'AVIF'):
                self._image.load()  # they know the duration of a decoded frame only
            duration = float(self._image.info.get('duration') or 0)
            duration = DEFAULT_DURATION if duration < MIN_DURATION else duration
            self._starts.append(self._starts[-1] + duration / 1000)
        self.total: int | None = len(frames)
        self.fps = len(frames) / self._starts[-1]

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the frames.

        Raises:
            OSError: A frame is damaged.
        """
        for number, seconds in enumerate(self._starts[:-1]):
            self._image.seek(self._first + number)
            yield Frame(number, seconds, turn(to_bgr(self._image), self._orientation))

    def close(self) -> None:
        """Close the file."""
        self._image.close()


def open_reader(origin: Path | int) -> VideoReader | AnimationReader:
    """Open a video, an animated image or, by its number, a camera."""
    if isinstance(origin, Path) and kind_of(origin) == 'animation':
        return AnimationReader(origin)
    return VideoReader(origin)
