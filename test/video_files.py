# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Small videos for tests."""

from __future__ import annotations

import av
import numpy as np

from mmface.apis.video.base import Frame
from mmface.apis.video.writer import open_video


def write_frames(path, seconds=(0.0, 0.04, 0.08, 0.12), size=(64, 48), fps=25, **options):
    """Write frames of increasing brightness, one at each of ``seconds``."""
    with open_video(path, fps, size, **options) as video:
        for number, when in enumerate(seconds):
            image = np.full((size[1], size[0], 3), min(20 * number, 255), np.uint8)
            video.write(Frame(number, when, image, 0.5))
    return path


def encode(path, images, codec='libx264', pixels='yuv420p', sound=None, prepare=None):
    """Write a file with PyAV itself, for what our writer never writes."""
    with av.open(str(path), 'w') as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        if prepare:
            prepare(stream)
        if sound:
            rate = {'pcm_s16le': 8000, 'libopus': 48000}.get(sound, 44100)
            tone = out.add_stream(sound, rate=rate, layout='stereo', bit_rate=96_000)
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='bgr24')))
        out.mux(stream.encode(None))
        if sound:
            _add_tone(out, tone)
    return path


def _add_tone(out, tone):
    context = tone.codec_context
    size = context.frame_size or 400
    resampler = av.AudioResampler(context.format, context.layout, context.sample_rate, size)
    wave = (8000 * np.sin(np.arange(context.sample_rate) / 5)).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(wave, 's16', 'mono')
    frame.rate, frame.pts = context.sample_rate, 0
    for part in resampler.resample(frame):
        out.mux(tone.encode(part))
    out.mux(tone.encode(None))


def sound_packets(path):
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        packets = [each for each in file.demux(stream) if each.dts is not None]
        return stream.codec_context.name, [(p.pts * p.time_base, bytes(p)) for p in packets]


def drawn_images(count=10, size=(48, 64)):
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, size[1])[None, :, None] * np.ones((*size, 3))
    return [(ramp * rng.uniform(0.2, 1, 3)).astype(np.uint8) for _ in range(count)]
