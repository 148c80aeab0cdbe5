# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of mmface/utils/file_kinds.py. Images of all kinds: test_tools/test_detect_kinds.py."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from mmface.utils.file_kinds import count_pages, kind_of, kind_of_content

#: Formats of FFmpeg, with a codec that each can hold.
CONTAINERS = {
    'mp4': 'mpeg4',
    'mov': 'mpeg4',
    '3gp': 'mpeg4',
    'matroska': 'mpeg4',
    'webm': 'libvpx',
    'avi': 'mpeg4',
    'mpegts': 'mpeg2video',
    'mpeg': 'mpeg2video',
    'flv': 'flv',
    'asf': 'wmv2',
    'mxf': 'mpeg2video',
    'ivf': 'libvpx',
    'yuv4mpegpipe': 'wrapped_avframe',
}


@pytest.mark.parametrize('container', [*CONTAINERS, 'm2ts'])
def test_kind_of_content__videos(container):
    av = pytest.importorskip('av')
    options = {'mpegts_m2ts_mode': '1'} if container == 'm2ts' else {}
    kind = 'mpegts' if container == 'm2ts' else container
    buffer = io.BytesIO()
    with av.open(buffer, 'w', format=kind, options=options) as output:
        stream = output.add_stream(CONTAINERS[kind], rate=25)
        stream.width, stream.height, stream.pix_fmt = 352, 288, 'yuv420p'
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((288, 352, 3), np.uint8), 'rgb24')
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    assert kind_of_content(buffer.getvalue(), 'without_suffix') == 'video'


@pytest.mark.parametrize(
    ('head', 'kind'),
    [
        (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'heif'),
        (b'\0\0\0\x18ftypmif1\0\0\0\0mif1heic', 'heif'),
        (b'\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf', 'image'),
        (b'\0\0\0\x18ftypavif\0\0\0\0mif1avif', 'image'),
        (b'\0\0\0\x18ftypavis\0\0\0\0avismsf1', 'animation'),
        (b'\0\0\0\x18ftypisom\0\0\0\0isommp41', 'video'),
        (b'\0\0\0\x08wide\0\0\0\0mdat', 'video'),
        (b'GIF89a', 'image'),  # cut short: decoding reports it
        (b'\x89PNG\r\n\x1a\n', 'image'),
        (b'BMW is a brand of cars and motorcycles', None),
        (b'P4 is a long story', 'image'),  # a text with the first bytes of PBM is reported as one
        (b'RIFF\0\0\0\0WAVEfmt ', None),
        (b'%PDF-1.7', None),
        (b'#EXTM3U\n', None),
        (b'ffconcat version 1.0\n', None),
        (b'PK\3\4', None),
        (b'GGGG', None),
        (b'', None),
    ],
)
def test_kind_of_content__first_bytes(head, kind):
    assert kind_of_content(head, 'a') == kind
    assert kind_of_content(head, 'a.bin') == kind


@pytest.mark.parametrize(('name', 'kind'), [('a.JPG', 'image'), ('a.MTS', 'video'), ('a', None)])
def test_kind_of__unknown_content_has_the_kind_of_the_suffix(name, kind, tmp_path):
    (tmp_path / name).write_bytes(b'?' * 100)
    assert kind_of(tmp_path / name) == kind


@pytest.mark.parametrize('suffix', ['gif', 'png', 'webp', 'avif'])
def test_kind_of__animated_or_not(suffix, tmp_path):
    frames = [PIL.Image.new('RGB', (20, 10), (90 * i, 0, 0)) for i in range(2)]
    frames[0].save(tmp_path / f'still.{suffix}')
    frames[0].save(tmp_path / f'moving.{suffix}', save_all=True, append_images=frames[1:])
    assert kind_of(tmp_path / f'still.{suffix}') == 'image'
    assert kind_of(tmp_path / f'moving.{suffix}') == 'animation'


def test_count_pages(tmp_path):
    pages = [PIL.Image.new('RGB', (20, 10), (90 * i, 0, 0)) for i in range(3)]
    pages[0].save(tmp_path / 'a.tif', save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / 'a.mpo', save_all=True, append_images=pages[1:])
    assert count_pages(tmp_path / 'a.tif') == 3
    assert count_pages(tmp_path / 'a.mpo') == 1
    (tmp_path / 'b.tif').write_bytes((tmp_path / 'a.tif').read_bytes()[:20])
    assert count_pages(tmp_path / 'b.tif') == 1


def test_kind_of_content__cut_webp():
    for length in range(31):
        head = (b'RIFF\0\0\0\0WEBPVP8X' + bytes(14))[:length]
        assert kind_of_content(head, 'a.webp') in ('image', None), length
