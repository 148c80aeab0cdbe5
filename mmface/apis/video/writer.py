# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Write videos with PyAV (FFmpeg)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmface.apis.video.base import Frame
from mmface.apis.video.sound import Sound
from mmface.utils.extras import optional_imports
from mmface.utils.files import whole_file
from mmface.utils.images import Image, PathLike

with optional_imports():
    import av
    from av.video.reformatter import Colorspace, VideoReformatter

#: Unit of the time stamps. All common frame rates, 24000/1001 too, and milliseconds are whole
#: numbers of it.
TIME_BASE = Fraction(1, 120000)
#: ultrafast with the 8x8 transform, which costs a tenth more and gains 2 dB of PSNR. It takes 0.26
#: of the CPU time of veryfast. Files are 1.3 (strong noise, 2.8 dB less) to 3 times (clean images,
#: 1 to 3 dB more) as large at the same crf. 20 is a quality without visible loss.
#: Without B-frames, packets have the order of the frames: with them, mp4 tells a shorter duration
#: than the frames have if these are unevenly spaced.
_X264 = {
    'preset': 'ultrafast',
    'crf': '20',
    'bf': '0',
    'x264-params': '8x8dct=1:partitions=i8x8',
}
#: Playing can start before all is loaded. A video that starts later than its sound does so exactly:
#: mp4 counts this delay in milliseconds otherwise.
_MP4 = {'movflags': '+faststart', 'movie_timescale': str(TIME_BASE.denominator)}
_BT709 = 1  # the number of these colours in H.264
_LIMITED_RANGE = 1


class VideoWriter:
    """Writes an H.264 mp4 file that browsers play. Create it with ``open_video``.

    Such files have an even number of rows and columns. An odd image gets its last row or column
    twice, so that no pixel is lost.

    Args:
        path: The file.
        fps: Mean number of frames per second.
        size: Width and height. Frames of another size are resized.
        aspect: Width of a pixel divided by its height.
        sound: A file whose sound is copied, ``None`` for no sound.
        start: Time stamp in ``sound`` of the start of the video, in seconds.

    Raises:
        FFmpegError: The file cannot be written, or not with this size.
    """

    def __init__(
        self,
        path: PathLike,
        fps: float,
        size: tuple[int, int],
        aspect: Fraction = Fraction(1),
        sound: Path | None = None,
        start: float = 0.0,
    ) -> None:
        self._size = size
        self._output = av.open(str(path), 'w', format='mp4', options=_MP4)
        self._reformatter = VideoReformatter()
        self._durations: dict[int, int] = {}
        self._last = -1
        self._step = round(1 / fps / TIME_BASE)
        self._sound: Sound | None = None
        try:
            self._stream = self._add_stream(Fraction(fps).limit_denominator(1001), aspect)
            if sound is not None:
                self._sound = Sound(sound, start, self._output)
        except BaseException:
            self._output.close()
            raise

    def _add_stream(self, rate: Fraction, aspect: Fraction) -> Any:
        stream = self._output.add_stream('libx264', rate=rate, options=_X264)
        stream.width, stream.height = (side + side % 2 for side in self._size)
        stream.pix_fmt = 'yuv420p'
        context = stream.codec_context
        # The encoder takes these from its context alone, and before the first frame.
        context.time_base = TIME_BASE
        context.sample_aspect_ratio = aspect
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        context.open()
        return stream

    @property
    def damaged_sound(self) -> int:
        """Return the number of damaged packets of sound, which are left out."""
        return 0 if self._sound is None else self._sound.damaged

    def write(self, frame: Frame) -> None:
        """Write a frame for its time.

        Raises:
            FFmpegError: The file cannot be written.
        """
        coded = self._reformatter.reformat(
            av.VideoFrame.from_numpy_buffer(self._pixels(frame.image), format='bgr24'),
            format='yuv420p',
            dst_colorspace=Colorspace.ITU709,
            dst_color_range='MPEG',
            threads=1,
        )
        coded.time_base = TIME_BASE
        coded.pts = max(round(frame.seconds / TIME_BASE), self._last + 1)
        self._last = coded.pts
        length = self._step if frame.duration is None else round(frame.duration / TIME_BASE)
        self._durations[coded.pts] = max(length, 1)
        if self._sound is not None:
            self._sound.write_until(frame.seconds)
        self._mux(self._stream.encode(coded))

    def _pixels(self, image: Image) -> np.ndarray:
        if image.shape[1::-1] != self._size:  # some streams change size; a file cannot
            image = np.asarray(cv2.resize(image, self._size), np.uint8)
        bottom, right = (side % 2 for side in image.shape[:2])
        if bottom or right:
            return cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        return np.ascontiguousarray(image)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            self._output.mux(packet)

    def finish(self) -> None:
        """Write what the encoder still holds, and the rest of the sound."""
        self._mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.finish()

    def close(self) -> None:
        """Close the file."""
        if self._sound is not None:
            self._sound.close()
        self._output.close()


@contextmanager
def open_video(
    path: PathLike, fps: float, size: tuple[int, int], **options: Any
) -> Iterator[VideoWriter]:
    """Write an mp4 file, whole or not at all.

    Args:
        path: The file. It exists only after the block has ended without an exception.
        fps: Mean number of frames per second.
        size: Width and height.
        **options: Further arguments of ``VideoWriter``.

    Yields:
        The writer for the frames.

    Raises:
        OSError: The file cannot be written.
    """
    with whole_file(path) as tmp:
        try:
            writer = VideoWriter(tmp, fps, size, **options)
            try:
                yield writer
                writer.finish()
            except BaseException:
                with suppress(Exception):  # the file is thrown away
                    writer.close()
                raise
            writer.close()
        except av.FFmpegError as error:  # not always an OSError
            raise OSError(f'{path} cannot be written as a video: {error.strerror}') from error
