# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of large images: tiles, and the limit of pixels."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from mmface.deploy.runtime import FaceDetector
from mmface.deploy.runtime.detections import Detections
from mmface.deploy.runtime.tiles import Tile, cut_tiles, join, to_image


def _found(boxes, scores=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.5, len(boxes)) if scores is None else scores
    points = np.repeat(boxes[:, None, :2], 5, axis=1)
    return Detections(boxes, np.array(scores, np.float32), points)


def test_cut_tiles__every_small_part_is_whole_in_a_tile():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1500, 2111, 3), np.uint8)
    tiles = [t for t in cut_tiles(image, (640, 640), 640 / 2111) if t.scale == (1, 1)]
    for x, y in rng.integers(0, [2111 - 159, 1500 - 159], (200, 2)):  # parts of 159 px
        inside = [
            t
            for t in tiles
            if t.corner[0] <= x
            and t.corner[1] <= y
            and x + 159 <= t.corner[0] + t.pixels.shape[1]
            and y + 159 <= t.corner[1] + t.pixels.shape[0]
        ]
        assert inside
    for t in tiles:
        assert t.pixels.shape == (640, 640, 3)
        assert t.pixels.base is image  # no copy
        x, y = t.corner
        np.testing.assert_array_equal(t.pixels, image[y : y + 640, x : x + 640])
        assert t.cut == (x > 0, y > 0, x + 640 < 2111, y + 640 < 1500)


@pytest.mark.parametrize(
    ('shape', 'whole', 'scales'),
    [
        ((480, 640), 1.0, []),
        ((2160, 3840), 640 / 3840, [1, 0.25]),
        ((700, 700), 640 / 700, [1]),
        ((8000, 8000), 640 / 8000, [1, 0.25]),
        ((20, 3000), 640 / 3000, [1, 0.25]),
    ],
)
def test_cut_tiles__scales_down_to_the_whole_image(shape, whole, scales):
    image = np.zeros((*shape, 3), np.uint8)
    found = [round(tile.scale[0], 2) for tile in cut_tiles(image, (640, 640), whole)]
    assert list(dict.fromkeys(found)) == scales


def test_to_image__drops_what_an_inner_edge_cuts():
    tile = Tile(
        np.zeros((100, 100, 3), np.uint8), (0.5, 0.25), (40, 80), (True, False, False, True)
    )
    found = to_image(
        _found(
            [[10, 10, 30, 30], [0, 10, 30, 30], [10, 0, 30, 30], [70, 10, 100, 40], [5, 80, 9, 99]]
        ),
        tile,
    )
    expected = [[100, 360, 140, 440], [100, 320, 140, 440], [220, 360, 280, 480]]
    np.testing.assert_allclose(found.bboxes, expected)
    np.testing.assert_allclose(found.keypoints[:, 0], found.bboxes[:, :2])


def test_join__one_face_of_two_passes():
    whole, tile = _found([[10, 10, 50, 50]], [0.6]), _found([[11, 10, 51, 50], [90, 90, 99, 99]])
    found = join([whole, tile], 0.4, -1)
    np.testing.assert_allclose(found.bboxes, [[11, 10, 51, 50], [90, 90, 99, 99]])
    assert len(join([whole, tile], 0.4, 1).scores) == 1
    without = Detections(whole.bboxes, whole.scores)
    assert join([without, without], 0.4, -1).keypoints is None
    assert len(join([_found([]), _found([])], 0.4, -1).scores) == 0
    assert len(join([whole, whole], 0.0, -1).scores) == 1  # a model without NMS
    first = whole._replace(labels=np.array([0]))
    assert len(join([first, first._replace(labels=np.array([1]))], 0.4, -1).scores) == 2


@pytest.fixture
def centerface(tmp_path):
    pytest.importorskip('onnx')
    from mmface_benchmark.toy_onnx import write_toy_centerface

    path = write_toy_centerface(tmp_path / 'toy.onnx')
    # As the files of Star-Clouds: the input has the size of the image.
    spec = replace(FaceDetector(path).spec, size=(0, 0), resize='stretch')

    def open_file(**options):
        return FaceDetector(path, spec=spec, **options)

    return open_file


@pytest.mark.parametrize('shape', [(6000, 8000), (48_000, 1000), (100, 480_000)])
def test_detector__a_large_image_stays_below_the_limit(shape, centerface):
    """48 MP would take 11 GB in CenterFace's network, if it were not shrunk."""
    detector = centerface(score_thr=0.5)
    inputs = []
    run = detector.run
    detector.run = lambda blob: inputs.append(blob.shape) or run(blob)
    image = np.zeros((*shape, 3), np.uint8)
    image[shape[0] // 2 :] = 255
    (found,) = detector.detect([image])
    ((_, _, height, width),) = inputs
    assert height * width <= 4_000_000 + 32 * (height + width)
    # Boxes are in pixels of the original image.
    assert found.bboxes[:, 2].max() > 0.9 * shape[1]
    assert found.bboxes[:, 3].max() > 0.9 * shape[0]


def test_detector__the_limit_does_not_touch_smaller_images(centerface):
    image = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    default, free, small = (centerface(max_pixels=limit) for limit in (4_000_000, None, 50_000))
    assert default.place(image)[1] == free.place(image)[1]
    assert small.place(image)[1].size == (192, 320)
    with pytest.raises(ValueError, match='max_pixels 0: expected'):
        centerface(max_pixels=0)


def test_detector__threads_together_have_a_limit(centerface):
    detector = centerface(max_pixels=10_000)
    images = [np.zeros((int(side), 96, 3), np.uint8) for side in (96, 64, 300, 32, 96) * 8]
    lock, now, most, run = threading.Lock(), [], [], detector.session.run

    class Session:
        def run(self, names, feed):
            pixels = feed[detector.input_name][0, 0].size
            with lock:
                now.append(pixels)
                most.append(sum(now))
            time.sleep(0.002)
            try:
                return run(names, feed)
            finally:
                with lock:
                    now.remove(pixels)

    detector.session = Session()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(detector, images))
    assert len(most) == 40
    assert 20_000 < max(most) <= 40_000


def test_detector__tiles_change_nothing_for_small_images(centerface):
    image = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    (plain,), (tiled,) = (centerface(tiles=tiles).detect([image]) for tiles in (False, True))
    np.testing.assert_array_equal(plain.bboxes, tiled.bboxes)


@pytest.mark.reference
def test_detector__tiles_find_small_faces_in_a_large_image(reference_dir):
    from mmface.utils.images import read_image

    folder = reference_dir / 'data/wider/WIDER_val/images'
    path = sorted(folder.glob('20--Family_Group/*.jpg'))[0]
    photo = read_image(path)
    large = np.full((2160, 3840, 3), 90, np.uint8)
    large[1000 : 1000 + photo.shape[0], 1500 : 1500 + photo.shape[1]] = photo
    model = reference_dir / 'data/scrfd/weights/scrfd_500m_bnkps.onnx'
    expected = FaceDetector(model)(photo)
    tiled = FaceDetector(model, tiles=True)(large)
    assert len(expected) > 2
    for face in expected:
        x, y = (face.bbox[:2] + face.bbox[2:]) / 2 + [1500, 1000]
        inside = [t for t in tiled if t.bbox[0] < x < t.bbox[2] and t.bbox[1] < y < t.bbox[3]]
        assert len(inside) == 1, 'found once, whole'
