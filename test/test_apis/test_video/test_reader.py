# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of reading and writing videos."""

from __future__ import annotations

import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from mmface.apis.video.base import Frame
from mmface.apis.video.camera import Camera
from mmface.apis.video.open import open_source
from mmface.apis.video.reader import VideoReader
from mmface.apis.video.writer import open_video
from video_files import drawn_images, encode, sound_packets, write_frames

#: A phone in weak light: 10 frames a second, then 2.
UNEVEN = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 1.5, 2.0]


def test_video__round_trip(tmp_path):
    reader = VideoReader(write_frames(tmp_path / 'new' / 'a.mp4', np.arange(10) / 10, fps=10))
    assert (reader.fps, reader.size, reader.live) == (pytest.approx(10, rel=0.3), (64, 48), False)
    frames = list(reader)
    assert [frame.number for frame in frames] == list(range(10))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(10) / 10)
    means = [frame.image.mean() for frame in frames]
    np.testing.assert_allclose(means, 20 * np.arange(10), atol=4)
    assert [p.name for p in tmp_path.joinpath('new').iterdir()] == ['a.mp4']


def test_video__is_what_browsers_play(tmp_path):
    with av.open(str(write_frames(tmp_path / 'a.mp4', size=(65, 47)))) as file:
        (stream,) = file.streams
        context = stream.codec_context
        assert (context.name, context.pix_fmt, file.format.name.split(',')[1]) == (
            'h264',
            'yuv420p',
            'mp4',
        )
        assert (context.width, context.height) == (66, 48)
    data = (tmp_path / 'a.mp4').read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')  # playing starts before all is loaded


def test_video__uneven_times_are_kept_to_the_end(tmp_path):
    reader = VideoReader(write_frames(tmp_path / 'a.mp4', UNEVEN, fps=4))
    frames = list(reader)
    np.testing.assert_allclose([frame.seconds for frame in frames], UNEVEN, atol=1e-6)
    # With B-frames, the file would say 1.24 s, and players would stop there.
    with av.open(str(tmp_path / 'a.mp4')) as file:
        assert float(file.streams.video[0].duration * file.streams.video[0].time_base) == 2.5


@pytest.mark.parametrize('fps', [Fraction(24000, 1001), Fraction(30000, 1001), 24, 25, 50, 60])
def test_video__common_rates_are_exact(fps, tmp_path):
    seconds = [number / Fraction(fps) for number in range(30)]
    path = write_frames(tmp_path / 'a.mp4', map(float, seconds), fps=float(fps))
    with av.open(str(path)) as file:
        assert [frame.pts * frame.time_base for frame in file.decode(video=0)] == seconds


def test_video__odd_sides_lose_nothing(tmp_path):
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 256, (47, 65, 1), np.uint8), 3, axis=2)
    with open_video(tmp_path / 'a.mp4', 10, (65, 47)) as video:
        video.write(Frame(0, 0.0, grey))
    (frame,) = VideoReader(tmp_path / 'a.mp4')
    away = np.abs(frame.image[:47, :65].astype(int) - grey).mean(axis=(0, 2))
    assert away.max() < 12  # of noise, coded with loss: every column is there
    np.testing.assert_allclose(frame.image[:, 65], frame.image[:, 64], atol=25)


def test_video__frames_of_another_size_are_resized(tmp_path):
    with open_video(tmp_path / 'a.mp4', 10, (64, 48)) as video:
        video.write(Frame(0, 0.0, np.zeros((96, 128, 3), np.uint8)))
    (frame,) = VideoReader(tmp_path / 'a.mp4')
    assert frame.image.shape == (48, 64, 3)


@pytest.mark.parametrize('colour', [(255, 0, 0), (0, 255, 0), (0, 0, 255), (40, 120, 200)])
def test_video__colours_are_kept_and_named(colour, tmp_path):
    with open_video(tmp_path / 'a.mp4', 10, (64, 48)) as video:
        video.write(Frame(0, 0.0, np.full((48, 64, 3), colour, np.uint8)))
    (frame,) = VideoReader(tmp_path / 'a.mp4')
    np.testing.assert_allclose(frame.image[20, 20], colour, atol=6)
    with av.open(str(tmp_path / 'a.mp4')) as file:
        picture = next(file.decode(video=0))
        assert (picture.colorspace, picture.color_range) == (1, 1)  # BT.709, limited range


def test_video__pixel_aspect_is_kept(tmp_path):
    path = write_frames(tmp_path / 'a.mp4', aspect=Fraction(16, 11))
    assert VideoReader(path).aspect == Fraction(16, 11)


def _set_matrix(path, a, b, c, d):
    """Set the display matrix of an mp4 file: x' = a x + c y, y' = b x + d y."""
    data = path.read_bytes()
    place = data.index(b'tkhd') + 44
    one = 65536
    matrix = struct.pack('>9i', a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:place] + matrix + data[place + 36 :])
    return path


@pytest.mark.parametrize(
    ('matrix', 'turned'),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, 1, -1, 0), lambda image: np.rot90(image, 3)),
        # Flips, which ``frame.rotation`` does not tell.
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda image: image.swapaxes(0, 1)[::-1, ::-1]),
    ],
)
def test_reader__turned_and_mirrored_videos_are_upright(matrix, turned, tmp_path):
    images = drawn_images()
    reader = VideoReader(_set_matrix(encode(tmp_path / 'a.mp4', images), *matrix))
    expected = turned(images[0])
    assert reader.size == expected.shape[1::-1]
    np.testing.assert_allclose(next(iter(reader)).image, expected, atol=12)


def test_reader__aspect_of_a_turned_video_is_turned(tmp_path):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    path = encode(tmp_path / 'a.mp4', drawn_images(), prepare=prepare)
    assert VideoReader(path).aspect == Fraction(4, 3)
    assert VideoReader(_set_matrix(path, 0, 1, -1, 0)).aspect == Fraction(3, 4)


def test_reader__all_frames_of_a_stream_with_b_frames(tmp_path):
    path = encode(tmp_path / 'a.mp4', drawn_images(30))
    assert len(list(VideoReader(path))) == 30


def test_reader__frames_before_the_edit_list_are_hidden(tmp_path):
    """A clip that was cut without encoding starts at a key frame before its first image."""
    whole = encode(tmp_path / 'whole.mp4', drawn_images(20), sound='aac')
    with av.open(str(whole)) as source, av.open(str(tmp_path / 'cut.mp4'), 'w') as out:
        streams = {each.index: out.add_stream_from_template(each) for each in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            shift = round(Fraction(8, 25) / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    expected = [frame.image for frame in VideoReader(whole)][8:]
    reader = VideoReader(tmp_path / 'cut.mp4')
    frames = list(reader)
    assert [round(frame.seconds, 3) for frame in frames] == [n / 25 for n in range(12)]
    for frame, image in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.image, image)


@pytest.mark.parametrize(
    ('name', 'codec', 'sound', 'copied'),
    [
        ('a.3gp', 'h263', 'aac', True),
        ('a.m2ts', 'libx264', 'ac3', True),
        ('a.mts', 'mpeg2video', 'mp2', False),
        ('a.webm', 'libvpx-vp9', 'libopus', True),
        ('a.mkv', 'libvpx', 'pcm_s24le', False),
        ('a.mp4', 'libsvtav1', 'aac', True),
        ('a.mp4', 'libx265', 'flac', True),
        ('a.wmv', 'wmv2', 'wmav2', False),
        ('a.mpg', 'mpeg1video', 'mp2', False),
        ('a.flv', 'flv', 'libmp3lame', True),
        ('a.mov', 'prores_ks', 'pcm_s16le', False),
    ],
)
def test_video__of_many_kinds_with_sound(name, codec, sound, copied, tmp_path):
    pixels = 'yuv422p10le' if codec == 'prores_ks' else 'yuv420p'
    images = drawn_images(25, (144, 176))
    path = encode(tmp_path / name, images, codec=codec, pixels=pixels, sound=sound)
    reader = VideoReader(path)
    options = {'sound': reader.sound, 'start': reader.start}
    with open_video(tmp_path / 'out.mp4', reader.fps, reader.size, **options) as video:
        frames = list(reader)
        for frame in frames:
            video.write(frame)
    assert len(frames) >= 24
    away = np.abs(frames[10].image.astype(float) - images[10]).mean()
    assert away < 8, 'the colours of old codecs are rough'
    written = VideoReader(tmp_path / 'out.mp4')
    # The file may begin with its first image, where the first sound was only for the decoder.
    times = [written.start + frame.seconds for frame in written]
    np.testing.assert_allclose(times, [frame.seconds for frame in frames], atol=1e-5)
    with av.open(str(tmp_path / 'out.mp4')) as file:
        (stream,) = file.streams.audio
        samples = sum(frame.samples for frame in file.decode(stream))
        assert (stream.codec_context.name == 'aac') == (not copied or sound == 'aac')
        assert samples / stream.rate == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize('sound', ['aac', 'mp2'])
def test_video__joined_recordings_go_on(sound, tmp_path):
    """Cameras start their clocks again; people join the files with cat."""
    one = encode(tmp_path / 'one.ts', drawn_images(25), sound=sound)
    path = tmp_path / 'two.ts'
    path.write_bytes(2 * one.read_bytes())
    reader = VideoReader(path)
    options = {'sound': reader.sound, 'start': reader.start}
    with open_video(tmp_path / 'out.mp4', reader.fps, reader.size, **options) as video:
        for frame in reader:
            video.write(frame)
    seconds = [frame.seconds for frame in VideoReader(tmp_path / 'out.mp4')]
    assert len(seconds) == 50
    assert 1.9 < seconds[-1] < 2.1
    assert (np.diff(seconds) > 0).all()
    _, packets = sound_packets(tmp_path / 'out.mp4')
    assert packets[-1][0] == pytest.approx(2, abs=0.1)


def _damage(path, codec, place):
    data = bytearray(encode(path, drawn_images(60, (120, 160)), codec=codec).read_bytes())
    start = data.index(b'mdat') + 8 if b'mdat' in data else len(data) // 4
    at = start + int(place * (len(data) - start))
    data[at : at + 400] = bytes(400)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ('name', 'least', 'damaged'),
    [('a.mp4', 55, 1), ('a.ts', 55, 1), ('a.mkv', 20, 1), ('a.avi', 55, 0)],
)
def test_reader__goes_on_behind_damage(name, least, damaged, tmp_path):
    codec = 'mpeg4' if name.endswith('avi') else 'libx264'
    reader = VideoReader(_damage(tmp_path / name, codec, 0.4))
    frames = list(reader)
    # The decoder of MPEG-4 repairs without a word. mkv ends at damage between its packets.
    assert reader.damaged >= damaged
    assert least <= len(frames) < 60
    assert (np.diff([frame.seconds for frame in frames]) > 0).all()


def test_reader__codec_without_a_decoder(tmp_path):
    path = encode(tmp_path / 'a.avi', drawn_images(), codec='mpeg4')
    path.write_bytes(path.read_bytes().replace(b'FMP4', b'XXXX'))
    with pytest.raises(ValueError, match=r'a\.avi is coded with a codec that .*: convert'):
        VideoReader(path)


def test_open_source__what_is_not_there(tmp_path):
    path = tmp_path / 'a.mp4'
    with pytest.raises(FileNotFoundError, match=r'a\.mp4 does not exist'):
        open_source(path)
    path.write_text('text')
    with pytest.raises(ValueError, match='cannot be opened: it is not a video'):
        open_source(path)
    encode(path, drawn_images())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r'a\.mp4'):
        open_source(path)
    with pytest.raises(ValueError, match='camera 97 cannot be opened'):
        open_source(97)
    with pytest.raises(ValueError, match='camera 97 cannot be opened'):
        Camera(97)


def test_writer__nothing_is_left_of_a_failure(tmp_path):
    path = tmp_path / 'a.mp4'
    with pytest.raises(KeyboardInterrupt), open_video(path, 10, (64, 48)) as video:
        video.write(Frame(0, 0.0, np.zeros((48, 64, 3), np.uint8)))
        raise KeyboardInterrupt
    with pytest.raises(OSError, match='cannot be written as a video'), open_video(path, 10, (0, 0)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_writer__full_disk(tmp_path):
    """A limit of the file size acts like a full disk."""
    code = (
        'import resource, signal, sys\n'
        'import numpy as np\n'
        'from mmface.apis.video.base import Frame\n'
        'from mmface.apis.video.writer import open_video\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n'
        'noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)\n'
        'try:\n'
        f'    with open_video({str(tmp_path / "a.mp4")!r}, 25, (320, 240)) as video:\n'
        '        for number in range(60):\n'
        '            video.write(Frame(number, number / 25, noise))\n'
        'except OSError as error:\n'
        '    sys.exit(f"as it should be: {error}")\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=600)
    assert done.stderr.startswith('as it should be: '), done.stderr
    assert 'a.mp4' in done.stderr
    assert list(tmp_path.iterdir()) == []
