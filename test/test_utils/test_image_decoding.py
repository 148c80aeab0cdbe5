# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The same rule for orientation and damage in all formats."""

from __future__ import annotations

import io
import logging

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mmface.utils import image_decoding
from mmface.utils.image_decoding import (
    BadImage,
    check_pixels,
    decode_image,
    refuse_damaged,
    warn_damaged,
)
from mmface.utils.images import image_size, read_image
from mmface.utils.pillow import heif_installed

# Four corners in four colours, smooth enough for lossy formats.
CORNERS = np.zeros((48, 64, 3), np.uint8)
CORNERS[:24, :32], CORNERS[:24, 32:], CORNERS[24:, 32:] = (250, 0, 0), (0, 250, 0), (250, 250, 250)
NOISE = cv2.GaussianBlur(
    np.random.default_rng(0).integers(0, 256, (203, 147, 3), dtype=np.uint8), (0, 0), 2
)


def saved(kind: str, orientation: int | None = None) -> bytes:
    exif = Image.Exif()
    if orientation:
        exif[274] = orientation
    buffer = io.BytesIO()
    Image.fromarray(CORNERS).save(buffer, kind, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize('orientation', [None, *range(1, 9)])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'AVIF', 'HEIF'])
def test_orientation__acts_on_every_format_alike(kind, orientation, tmp_path):
    if kind == 'HEIF' and not heif_installed():
        pytest.skip('needs pip install "mmface[heif]"')
    path = tmp_path / 'a.bin'
    path.write_bytes(saved(kind, orientation))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))[..., ::-1]
    found = read_image(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 6
    assert image_size(path) == found.shape[1::-1]
    with path.open('rb') as handle:
        assert image_size(handle) == found.shape[1::-1]


@pytest.fixture(params=['baseline', 'progressive', 'restarts'])
def jpeg(request):
    options = {
        'baseline': [],
        'progressive': [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        'restarts': [cv2.IMWRITE_JPEG_RST_INTERVAL, 3],
    }[request.param]
    return cv2.imencode('.jpg', NOISE, options)[1].tobytes()


@pytest.mark.parametrize('end', [b'', b'\0' * 40], ids=['nothing', 'zeros'])
def test_jpeg__only_the_end_marker_is_missing(jpeg, end):
    whole = decode_image(jpeg, 'a.jpg', refuse_damaged)
    np.testing.assert_array_equal(whole, cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1))
    got = decode_image(jpeg[:-2] + end, 'a.jpg', refuse_damaged)
    np.testing.assert_array_equal(got, whole)


@pytest.mark.parametrize('lost', [4, 60, 0.5])
def test_jpeg__cut_before_its_end(jpeg, lost):
    lost = int(lost * len(jpeg)) if lost < 1 else lost
    with pytest.raises(BadImage, match=r'a\.jpg \(\d+ bytes\) is cut before its end'):
        decode_image(jpeg[:-lost], 'a.jpg')


def test_jpeg__damaged_inside(jpeg, caplog):
    data = bytearray(jpeg)
    middle = len(data) // 2
    data[middle : middle + middle // 2] = bytes(middle // 2)
    with pytest.raises(BadImage, match='has damaged data inside'):
        decode_image(bytes(data), 'a.jpg', refuse_damaged)
    warn_damaged.cache_clear()
    with caplog.at_level(logging.WARNING, 'mmface'):
        for _ in range(2):
            got = decode_image(bytes(data), 'a.jpg')
    np.testing.assert_array_equal(got, cv2.imdecode(np.frombuffer(data, np.uint8), 1))
    assert len([r for r in caplog.records if 'damaged data inside' in r.getMessage()]) == 1


def test_jpeg__damage_that_looks_like_another_frame():
    data = bytearray(cv2.imencode('.jpg', NOISE)[1].tobytes())
    data[len(data) // 2 : len(data) // 2 + 2] = b'\xff\xc5'
    said = []
    assert decode_image(bytes(data), 'a.jpg', said.append).shape == NOISE.shape
    assert len(said) == 1
    assert 'has damaged data inside (Unsupported JPEG process' in said[0]


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
def test_pixels__are_limited_before_decoding(kind, monkeypatch):
    data = saved(kind)
    monkeypatch.setattr(image_decoding, 'MAX_PIXELS', 48 * 64)
    check_pixels(data, 'a')
    monkeypatch.setattr(image_decoding, 'MAX_PIXELS', 48 * 64 - 1)
    with pytest.raises(BadImage, match=r'a has 64x48 pixels, more than the limit of 3,071'):
        decode_image(data, 'a')
