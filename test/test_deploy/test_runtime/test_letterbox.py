# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Images are fitted into the input as in the test pipelines of the models."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample

from mmface.datasets.transforms.face_letterbox import FaceLetterbox
from mmface.datasets.transforms.face_resize import FaceResize
from mmface.datasets.transforms.face_stretch import FaceStretch
from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime.letterbox import place, to_blob, to_canvas
from mmface.models.data_preprocessors.face_data_preprocessor import FaceDataPreprocessor

SIZES = [(640, 640), (333, 500), (500, 333), (1, 1), (7, 2000), (2000, 7), (1400, 1024)]
NORM = {
    'rgb': dict(mean=(127.5,) * 3, std=(128.0,) * 3),
    'bgr': dict(mean=(104.0136177, 114.0342201, 119.91659325), std=(73.6, 69.9, 70.9)),
}


def make_spec(resize: str = 'keep_ratio', order: str = 'rgb', **options) -> ModelSpec:
    values = dict(
        family='scrfd',
        layout='raw',
        size=(640, 640),
        rgb=order == 'rgb',
        resize=resize,
        **NORM[order],
    )
    return ModelSpec(**{**values, **options})


def expected(results: dict, spec: ModelSpec, pad_size: tuple[int, int] | None) -> np.ndarray:
    """Process the image of a pipeline as the data preprocessor does."""
    preprocessor = FaceDataPreprocessor(spec.mean, spec.std, bgr_to_rgb=spec.rgb, pad_size=pad_size)
    pixels = torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))
    data = dict(inputs=[pixels], data_samples=[DetDataSample()])
    return preprocessor(data)['inputs'].numpy()


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
@pytest.mark.parametrize('size', SIZES)
def test_keep_ratio__equals_the_test_pipeline(make_image, size, order):
    image, spec = make_image(*size), make_spec(order=order)
    results = FaceResize((640, 640), keep_ratio=True).transform(dict(img=image))
    pixels, placement = place(image, spec)
    blob = to_blob([pixels], [placement], spec)
    np.testing.assert_array_equal(blob, expected(results, spec, (640, 640)))
    assert placement == (results['scale_factor'], (0, 0), results['img_shape'], (640, 640))


@pytest.mark.parametrize('size', SIZES)
def test_centre__equals_the_test_pipeline(make_image, size):
    image, spec = make_image(*size), make_spec('centre', 'bgr', size=(800, 800))
    results = FaceLetterbox(800).transform(dict(img=image))
    pixels, placement = place(image, spec)
    blob = to_blob([pixels], [placement], spec)
    np.testing.assert_array_equal(blob, expected(results, spec, None))
    meta = (results['scale_factor'], results['pad_offset'], results['img_shape'], (800, 800))
    assert placement == meta


@pytest.mark.parametrize('limit', [None, 40_000])
@pytest.mark.parametrize('size', SIZES)
def test_stretch__equals_the_test_pipeline(make_image, size, limit):
    image, spec = make_image(*size), make_spec('stretch', size=(0, 0))
    results = FaceStretch(max_pixels=limit).transform(dict(img=image))
    pixels, placement = place(image, spec, max_pixels=limit)
    blob = to_blob([pixels], [placement], spec)
    np.testing.assert_array_equal(blob, expected(results, spec, None))
    assert placement == (results['scale_factor'], (0, 0), *(results['img_shape'],) * 2)


@pytest.mark.parametrize('size', SIZES[:3] + SIZES[4:])
def test_insightface__equals_its_recipe(make_image, size):
    image, spec = make_image(*size), make_spec()
    ratio = size[0] / size[1]
    content = (640, int(640 / ratio)) if ratio > 1 else (int(640 * ratio), 640)
    canvas = np.zeros((640, 640, 3), np.uint8)
    canvas[: content[0], : content[1]] = cv2.resize(image, content[::-1])
    blob = cv2.dnn.blobFromImage(canvas, 1 / 128, (640, 640), (127.5,) * 3, swapRB=True)
    pixels, placement = place(image, spec, letterbox='insightface')
    np.testing.assert_array_equal(to_canvas(pixels, placement), canvas)
    np.testing.assert_array_equal(to_blob([pixels], [placement], spec, 'insightface'), blob)
    assert placement == ((content[0] / size[0],) * 2, (0, 0), content, (640, 640))


def test_keep_ratio__fits_inputs_that_are_no_squares(make_image):
    for size, content in (((300, 200), (480, 320)), ((200, 300), (427, 640))):
        _, placement = place(make_image(*size), make_spec(), (480, 640))
        assert (placement.content, placement.size) == (content, (480, 640))


def test_tight__pads_to_the_next_multiple(make_image):
    image, spec = make_image(300, 500), make_spec()
    pixels, placement = place(image, spec, canvas='tight')
    assert (placement.content, placement.size) == ((384, 640), (384, 640))
    pixels, placement = place(make_image(301, 500), spec, canvas='tight')
    assert (placement.content, placement.size) == ((385, 640), (416, 640))
    assert to_blob([pixels], [placement], spec).shape == (1, 3, 416, 640)


@pytest.mark.parametrize('resize', ['keep_ratio', 'centre'])
def test_size_of_the_image__keeps_its_pixels(make_image, resize):
    image = make_image(50, 90)
    pixels, placement = place(image, make_spec(resize, size=(0, 0)))
    assert placement.scale == (1, 1)
    assert placement.size == (64, 96)
    x, y = map(int, placement.offset)
    np.testing.assert_array_equal(to_canvas(pixels, placement)[y : y + 50, x : x + 90], image)


def test_to_blob__overwrites_what_was_in_the_buffer(make_image):
    spec = make_spec()
    placed = [place(make_image(*size), spec) for size in ((300, 500), (500, 300))]
    contents, placements = zip(*placed, strict=True)
    dirty = np.full((2, 3, 640, 640), np.nan, np.float32)
    blob = to_blob(contents, placements, spec, out=dirty)
    assert blob is dirty
    np.testing.assert_array_equal(blob, to_blob(contents, placements, spec))


def test_to_blob__leaves_normalising_to_the_graph(make_image):
    image, spec = make_image(300, 500), make_spec(order='bgr', normalized_inside=True)
    pixels, placement = place(image, spec)
    blob = to_blob([pixels], [placement], spec)
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (spec.mean, spec.std))
    outside = to_blob([pixels], [placement], make_spec(order='bgr'))
    np.testing.assert_allclose((blob - mean) / std, outside, atol=1e-6)


def test_place__refuses_unknown_options(make_image):
    with pytest.raises(ValueError, match="letterbox 'black': expected one of exact, insightface"):
        place(make_image(9, 9), make_spec(), letterbox='black')
    with pytest.raises(ValueError, match="canvas 'loose': expected one of full, tight"):
        place(make_image(9, 9), make_spec(), canvas='loose')


def test_centre__refuses_sides_that_opencv_cannot_warp():
    with pytest.raises(ValueError, match=r'40000x1 .*shrink the image first'):
        place(np.zeros((40000, 1, 3), np.uint8), make_spec('centre'))
