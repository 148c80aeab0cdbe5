# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Copy the sound of a video file into another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmface.utils.extras import optional_imports

with optional_imports():
    import av

#: Codecs that mp4 holds and common players know. Their packets are copied as they are.
COPIED = frozenset(['aac', 'mp3', 'ac3', 'eac3', 'alac', 'flac', 'opus'])
_AAC_RATES = frozenset([8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000])


class Sound:
    """The sound of a file, all of its tracks. Create it before the first frame is written.

    The packets of the codecs in ``COPIED`` are copied, so that no bit of the sound changes. Other
    sound (PCM, WMA, Vorbis, AMR ...) is encoded as AAC, in mono or stereo.

    Args:
        path: The file with the sound.
        start: Time stamp in that file which becomes 0, in seconds.
        output: The PyAV container to write to.

    Attributes:
        damaged: Number of damaged packets. They are left out.
    """

    def __init__(self, path: Path, start: float, output: Any) -> None:
        self.damaged = 0
        self._start = start
        self._output = output
        self._input = av.open(str(path), metadata_errors='replace')
        self._tracks = {
            stream.index: _Track(stream, output)
            for stream in self._input.streams.audio
            if stream.codec_context is not None
        }
        self._packets = self._demux()
        self._next = next(self._packets, None)

    def _demux(self) -> Iterator[Any]:
        streams = [self._input.streams[index] for index in self._tracks]
        try:
            for packet in self._input.demux(*streams):
                if packet.dts is not None:  # not the empty packet at the end
                    yield packet
        except av.FFmpegError:  # the file cannot be read further
            self.damaged += 1

    def write_until(self, seconds: float | None) -> None:
        """Write the sound up to a time of the video, ``None`` for all."""
        while (packet := self._next) is not None:
            if seconds is not None and packet.dts * packet.time_base - self._start > seconds:
                return
            try:
                for out in self._tracks[packet.stream.index].convert(packet, self._start):
                    self._output.mux(out)
            except av.FFmpegError as error:
                if isinstance(error, OSError):  # the disk, not the sound
                    raise
                self.damaged += 1
            self._next = next(self._packets, None)

    def finish(self) -> None:
        """Write the rest of the sound."""
        self.write_until(None)
        for track in self._tracks.values():
            for out in track.flush():
                self._output.mux(out)

    def close(self) -> None:
        """Close the file with the sound."""
        self._input.close()


class _Track:
    """One track of sound, copied or encoded."""

    def __init__(self, stream: Any, output: Any) -> None:
        self._shift = 0
        self._last: int | None = None
        self._expected = 0
        self.copied = stream.codec_context.name in COPIED or stream.codec.canonical_name in COPIED
        if self.copied:
            self._out = output.add_stream_from_template(stream)
            return
        # AVI does not name its channels, and AAC needs names and one of its own rates.
        layout = 'mono' if stream.layout.nb_channels == 1 else 'stereo'
        rate = stream.codec_context.sample_rate
        rate = rate if rate in _AAC_RATES else 48000
        self._out = output.add_stream('aac', rate=rate, layout=layout)
        self._resampler = av.AudioResampler(format='fltp', layout=layout, rate=rate)

    def convert(self, packet: Any, start: float) -> list[Any]:
        if not self.copied:
            frames = [each for frame in packet.decode() for each in self._resampler.resample(frame)]
            return [out for frame in frames for out in self._encode(frame, start)]
        shift = round(start / packet.time_base)
        moved = self._forwards(packet.dts - shift, packet.duration) - packet.dts
        packet.pts = None if packet.pts is None else packet.pts + moved
        packet.dts += moved
        packet.stream = self._out
        return [packet]

    def _forwards(self, stamp: int, length: int | None) -> int:
        """Return the time stamp of the next packet, which increases where recordings are joined."""
        stamp += self._shift
        if self._last is not None and stamp <= self._last:
            self._shift += self._expected - stamp
            stamp = self._expected
        self._last, self._expected = stamp, stamp + max(length or 0, 1)
        return stamp

    def _encode(self, frame: Any, start: float) -> list[Any]:
        if frame.pts is not None:
            stamp = frame.pts - round(start / frame.time_base)
            frame.pts = self._forwards(stamp, frame.samples)
        return self._out.encode(frame)

    def flush(self) -> list[Any]:
        return [] if self.copied else self._out.encode(None)
