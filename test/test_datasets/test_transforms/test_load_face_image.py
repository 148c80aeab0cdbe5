# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Reading images."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from mmface.datasets.transforms import LoadFaceImage

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def jpeg(path, image=IMAGE):
    cv2.imwrite(str(path), image)
    return path


def test_load__uint8_bgr_with_its_shape(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), IMAGE)
    results = LoadFaceImage()(dict(img_path=str(tmp_path / 'a.png'), width=0, height=0))
    np.testing.assert_array_equal(results['img'], IMAGE)
    assert results['ori_shape'] == results['img_shape'] == (20, 30)
    assert (results['width'], results['height']) == (30, 20)


def test_load__grey_and_alpha_become_three_channels(tmp_path):
    cv2.imwrite(str(tmp_path / 'grey.png'), IMAGE[..., 0])
    cv2.imwrite(str(tmp_path / 'alpha.png'), np.dstack([IMAGE, IMAGE[..., 0]]))
    grey = LoadFaceImage()(dict(img_path=str(tmp_path / 'grey.png')))['img']
    alpha = LoadFaceImage()(dict(img_path=str(tmp_path / 'alpha.png')))['img']
    np.testing.assert_array_equal(grey, np.repeat(IMAGE[..., :1], 3, axis=2))
    np.testing.assert_array_equal(alpha, IMAGE)


def test_load__applies_the_exif_orientation(tmp_path):
    path = jpeg(tmp_path / 'a.jpg')
    plain = path.read_bytes()
    # A TIFF block with one entry: tag 0x0112 (orientation), type 3, count 1, value 6.
    tiff = b'MM\x00*' + struct.pack('>LHHHLHHL', 8, 1, 0x0112, 3, 1, 6, 0, 0)
    block = b'Exif\x00\x00' + tiff
    turned = plain[:2] + b'\xff\xe1' + struct.pack('>H', len(block) + 2) + block + plain[2:]
    path.write_bytes(turned)
    results = LoadFaceImage()(dict(img_path=str(path)))
    upright = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(results['img'], cv2.rotate(upright, cv2.ROTATE_90_CLOCKWISE))
    assert results['ori_shape'] == (30, 20)


@pytest.mark.parametrize(
    'size',
    [{}, dict(width=600, height=400), dict(width=0, height=0)],
    ids=['not said', 'known', 'unknown'],
)
def test_load__same_pixels_whatever_the_labels_say(tmp_path, size):
    path = jpeg(tmp_path / 'a.jpg', cv2.resize(IMAGE, (600, 400)))
    want = cv2.imread(str(path))
    results = LoadFaceImage()(dict(img_path=str(path), **size))
    np.testing.assert_array_equal(results['img'], want)
    assert (results['height'], results['width']) == (400, 600)


@pytest.mark.parametrize(
    'name', ['größe.jpg', 'a b.jpg', b'caf\xe9.jpg'.decode('utf-8', 'surrogateescape')]
)
def test_load__any_file_name(tmp_path, name):
    (tmp_path / name).write_bytes(jpeg(tmp_path / 'a.jpg').read_bytes())
    results = LoadFaceImage()(dict(img_path=str(tmp_path / name), width=30, height=20))
    np.testing.assert_array_equal(results['img'], cv2.imread(str(tmp_path / 'a.jpg')))


def test_load__images_in_use_are_not_written_over(tmp_path):
    load = LoadFaceImage()
    paths = []
    for value in (10, 200):
        paths.append(jpeg(tmp_path / f'{value}.jpg', np.full((20, 30, 3), value, np.uint8)))
    views = [load(dict(img_path=str(path), width=30, height=20))['img'][3:9, ::2] for path in paths]
    assert [int(view.mean()) for view in views] == [10, 200]


@pytest.mark.parametrize('kept', [0.0, 0.3, 0.9, 0.999])
def test_load__truncated_jpeg_is_refused_by_name(tmp_path, kept):
    path = jpeg(tmp_path / 'cut.jpg', cv2.resize(IMAGE, (600, 400)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ValueError, match=r'cut\.jpg .*(before its end|truncated)'):
        LoadFaceImage()(dict(img_path=str(path)))


def test_load__text_is_no_image(tmp_path):
    (tmp_path / 'a.jpg').write_text('not found')
    with pytest.raises(ValueError, match=r'a\.jpg \(9 bytes\)'):
        LoadFaceImage()(dict(img_path=str(tmp_path / 'a.jpg')))


def test_load__missing_image_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no\.jpg does not exist.*prepare_widerface'):
        LoadFaceImage()(dict(img_path=str(tmp_path / 'no.jpg')))


def test_load__takes_a_given_array(tmp_path):
    results = LoadFaceImage()(dict(img=IMAGE, img_path=None))
    assert results['img'] is IMAGE
    assert results['ori_shape'] == (20, 30)


@pytest.mark.reference
def test_load__every_real_image(reference_dir):
    paths = sorted((reference_dir / 'data/wider').glob('WIDER_*/images/*/*.jpg'))
    load = LoadFaceImage()
    shapes = [load(dict(img_path=str(path)))['img'].shape for path in paths]
    assert len(shapes) == 1210
    assert {shape[1] for shape in shapes} == {1024}
