# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read video files with PyAV (FFmpeg)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mmface.apis.video.base import DEFAULT_FPS, Frame, VideoSource
from mmface.apis.video.clock import Clock
from mmface.utils.extras import optional_imports
from mmface.utils.images import Image, PathLike

with optional_imports():
    import av
    import av.stream
    from av.video.reformatter import VideoReformatter


class VideoReader(VideoSource):
    """The frames of a video file, upright, with their own time stamps.

    A damaged frame is shown as far as the decoder can repair it, or is left out. ``damaged`` counts
    what FFmpeg reports; old codecs such as MPEG-4 repair frames without a word. Frames that an
    edit list hides are not returned.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not a video, no frame can be decoded, or its codec is not available.
    """

    def __init__(self, path: PathLike) -> None:
        self.name = str(path)
        try:
            self._container = av.open(str(path), metadata_errors='replace')
        except FileNotFoundError:
            raise FileNotFoundError(f'{path} does not exist: expected a video') from None
        except av.FFmpegError as error:
            raise ValueError(
                f'{path} cannot be opened: it is not a video, is cut short, or has a format that '
                f'FFmpeg cannot read ({error.strerror})'
            ) from error
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        streams = self._container.streams
        # A cover image of a sound file is a video stream with one frame.
        videos = [
            each
            for each in streams.video
            if not each.disposition & av.stream.Disposition.attached_pic
        ]
        if not videos:
            raise ValueError(f'{self.name} has no video stream')
        self._stream = videos[0]
        if self._stream.codec_context is None:
            raise ValueError(
                f'{self.name} is coded with a codec that this PyAV does not know: convert the file '
                'to H.264'
            )
        fps = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self.fps = fps if 0 < fps < 1000 else DEFAULT_FPS
        self.total = self._stream.frames or None
        # The start of the file. Only a positive one is cut off: sound that starts before 0 is
        # what its decoder needs beforehand.
        self.start = max((self._container.start_time or 0) / av.time_base, 0.0)
        self._clock = Clock(1 / self.fps)
        self._reformatter = VideoReformatter()
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            raise ValueError(f'{self.name} has no frames')
        matrix = _display_matrix(self._first)
        height, width = _turn(np.empty((self._first.height, self._first.width)), matrix).shape
        self.size = (width, height)
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        self.aspect = 1 / aspect if matrix[0] == 0 else aspect
        if any(each.codec_context is not None for each in streams.audio):
            self.sound = Path(self.name)

    def _decode(self) -> Iterator[Any]:
        """Decode to the end of the file, past damaged packets."""
        try:
            for packet in self._container.demux(self._stream):
                self.damaged += bool(packet.is_corrupt)
                # The last packet is empty and fetches the frames that the decoder still holds.
                yield from self._frames_of(packet)
        except av.FFmpegError:  # the file cannot be read further
            self.damaged += 1
            yield from self._frames_of(None)

    def _frames_of(self, packet: Any) -> list[Any]:
        try:
            return self._stream.codec_context.decode(packet)
        except EOFError:
            return []
        except av.FFmpegError:
            self.damaged += 1
            return []

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the frames. This works once."""
        number = 0
        frame = self._first
        while frame is not None:
            self.damaged += bool(frame.is_corrupt)
            try:
                # frame.reformat would start and end threads for each frame.
                plain = self._reformatter.reformat(frame, format='bgr24', threads=1)
                image = _turn(plain.to_ndarray(), _display_matrix(frame))
            except (av.FFmpegError, ValueError, MemoryError):
                self.damaged += 1
            else:
                time = None if frame.time is None else float(frame.time) - self.start
                seconds = self._clock.next(time)
                length = float(frame.duration * frame.time_base) if frame.duration else None
                yield Frame(number, seconds, image, length)
                number += 1
            frame = next(self._decoded, None)

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """Return a, b, c, d of the matrix that turns a frame: x' = a x + c y, y' = b x + d y."""
    data = frame.side_data.get('DISPLAYMATRIX')
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(a) < abs(b):
        return 0, _sign(b), _sign(c), 0
    return _sign(a), 0, 0, _sign(d)


def _sign(value: int) -> int:
    return 1 if value >= 0 else -1


def _turn(image: np.ndarray, matrix: tuple[int, int, int, int]) -> Image:
    """Turn and mirror an image (H, W, ...) by multiples of 90 degrees."""
    a, b, c, d = matrix
    if a == 0:
        image, a, d = np.swapaxes(image, 0, 1), c, b
    image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image)
