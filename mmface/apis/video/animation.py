# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read animated GIF, PNG, WebP and AVIF files as videos."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from mmface.apis.video.base import Frame, VideoSource
from mmface.utils.image_decoding import exif_orientation, turn
from mmface.utils.images import PathLike
from mmface.utils.pillow import open_image, to_bgr

#: Browsers show frames of less than 20 ms for 100 ms. Times in milliseconds.
MIN_DURATION, DEFAULT_DURATION = 20, 100


class AnimationReader(VideoSource):
    """The frames of an animated image. A damaged frame ends them and is counted.

    FFmpeg does not decode animated WebP and reads only the first frame of animated AVIF, so the
    frames come from Pillow.

    Args:
        path: The file.

    Raises:
        OSError: The file cannot be read, or it is not an image.
        ValueError: The same.
    """

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
        self.total = len(frames)
        self.fps = len(frames) / self._starts[-1]

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the frames.

        Raises:
            OSError: The first frame is damaged.
        """
        for number, (start, end) in enumerate(itertools.pairwise(self._starts)):
            try:
                self._image.seek(self._first + number)
                image = turn(to_bgr(self._image), self._orientation)
            except (OSError, ValueError):
                if not number:
                    raise
                self.damaged += 1
                return
            yield Frame(number, start, image, end - start)

    def close(self) -> None:
        """Close the file."""
        self._image.close()
