# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Sound of videos is kept, copied where players know it."""

from __future__ import annotations

import av
import numpy as np
import pytest

from mmface.apis.video.reader import VideoReader
from mmface.apis.video.writer import open_video
from video_files import drawn_images, encode, sound_packets


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'ts', 'mov'])
def test_sound__is_copied_bit_for_bit(suffix, tmp_path):
    path = encode(tmp_path / f'a.{suffix}', drawn_images(25), sound='aac')
    reader = VideoReader(path)
    options = {'sound': reader.sound, 'start': reader.start}
    with open_video(tmp_path / 'b.mp4', reader.fps, reader.size, **options) as video:
        for frame in reader:
            video.write(frame)
    (codec, before), (name, after) = sound_packets(path), sound_packets(tmp_path / 'b.mp4')
    assert codec == name == 'aac'
    header = 7 if suffix == 'ts' else 0  # each packet repeats what mp4 says once
    assert [data for _, data in after] == [data[header:] for _, data in before]
    # The distance between sound and image stays, whatever the file counts from.
    moved = [float(new - old) for (new, _), (old, _) in zip(after, before, strict=True)]
    np.testing.assert_allclose(moved, -reader.start, atol=2e-3)
    first = next(iter(VideoReader(tmp_path / 'b.mp4'))).seconds
    assert first == pytest.approx(next(iter(VideoReader(path))).seconds, abs=2e-3)


def test_sound__that_mp4_players_do_not_know_becomes_aac(tmp_path):
    path = encode(tmp_path / 'a.avi', drawn_images(25), codec='mpeg4', sound='pcm_s16le')
    reader = VideoReader(path)
    with open_video(tmp_path / 'b.mp4', 25, reader.size, sound=reader.sound) as video:
        for frame in reader:
            video.write(frame)
    with av.open(str(tmp_path / 'b.mp4')) as file:
        assert file.streams.audio[0].codec_context.name == 'aac'
        wave = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])[:8000]
    spectrum = np.abs(np.fft.rfft(wave, 8000))
    assert spectrum.argmax() == pytest.approx(8000 / 5 / (2 * np.pi), abs=2)


@pytest.mark.parametrize('seed', range(5))
def test_sound__damaged_does_not_end_the_video(seed, tmp_path):
    data = bytearray(encode(tmp_path / 'a.ts', drawn_images(25), sound='aac').read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(1000, len(data), 40):
        data[at : at + 4] = rng.bytes(len(data[at : at + 4]))
    (tmp_path / 'a.ts').write_bytes(data)
    reader = VideoReader(tmp_path / 'a.ts')
    options = {'sound': reader.sound, 'start': reader.start}
    with open_video(tmp_path / 'out.mp4', reader.fps, reader.size, **options) as video:
        for frame in reader:
            video.write(frame)
    assert len(list(VideoReader(tmp_path / 'out.mp4'))) > 5
