# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""All kinds of files find faces in all kinds of images, or raise a clear error."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto

from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime import FaceDetector
from mmface.structures import Face

SIZE = (96, 128)
SPEC = ModelSpec('scrfd', 'raw', SIZE, (127.5,) * 3, (128.0,) * 3, True, nms_iou=0.3)


def every_face(*args, **options) -> FaceDetector:
    """Open a file with the threshold of its test, which is low, unless ``options`` set another."""
    return FaceDetector(*args, **{'score_thr': None, **options})


def assert_same(found: list[Face], expected: list[Face], atol: float = 1e-3) -> None:
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.bbox, theirs.bbox, atol=atol)
        assert ours.score == pytest.approx(theirs.score, abs=1e-5)
        if theirs.keypoints is not None:
            np.testing.assert_allclose(ours.keypoints, theirs.keypoints, atol=atol)


@pytest.fixture
def found_by_maps(scrfd_file, make_image) -> list[Face]:
    """Return the faces that the file with metadata and maps finds."""
    return every_face(scrfd_file(rank=4, spec=SPEC))(make_image(200, 300))


@pytest.mark.parametrize(
    'options',
    [
        dict(rank=3),
        dict(rank=3, batch=1),
        dict(rank=3, batch=4),
        dict(rank=3, batch=1, sides=SIZE),
        dict(rank=2, batch=1),
        dict(rank=2, batch=1, sides=SIZE, names=[str(443 + 3 * i) for i in range(9)]),
    ],
)
def test_call__gives_the_same_faces_with_files_of_other_projects(
    scrfd_file, make_image, found_by_maps, options
):
    size = None if options.get('sides') else SIZE
    detector = every_face(scrfd_file(**options), size=size, nms_iou=0.3)
    assert_same(detector(make_image(200, 300)), found_by_maps)


def test_call__reads_files_without_keypoints_and_with_five_strides(scrfd_file, make_image):
    detector = every_face(scrfd_file(kinds=2), size=SIZE)
    assert all(face.keypoints is None for face in detector(make_image(200, 300)))
    file = scrfd_file(strides=(8, 16, 32, 64, 128), num_priors=1)
    detector = every_face(file, size=(256, 128))
    assert detector.spec.strides[-1] == 128
    assert detector(make_image(200, 300))[0].keypoints.shape == (5, 2)
    with pytest.raises(ValueError, match='multiples of 128; the next ones are 256, 128'):
        every_face(file, size=(224, 128))


@pytest.mark.parametrize('batch', ['B', 1, 3])
def test_call__gives_the_same_faces_in_batches(scrfd_file, make_image, batch):
    detector = every_face(scrfd_file(rank=4, batch=batch, spec=SPEC))
    images = [make_image(60 + 20 * i, 90 + 7 * i, seed=i) for i in range(5)]
    together = detector(images)
    assert len(together) == 5
    for image, found in zip(images, together, strict=True):
        assert_same(found, detector(image))
    assert_same(detector(np.stack([images[1]] * 2))[1], together[1])
    assert detector([]) == []


def test_call__groups_images_by_the_size_of_their_input(centerface_file, make_image):
    detector = every_face(centerface_file(), max_per_img=20)
    runs = []
    run = detector.run
    detector.run = lambda blob: runs.append(blob.shape) or run(blob)
    images = [make_image(*size, seed=i) for i, size in enumerate([(40, 70), (90, 33), (64, 96)])]
    together = detector(images)
    assert sorted(runs) == [(1, 3, 96, 64), (2, 3, 64, 96)]
    for image, found in zip(images, together, strict=True):
        assert_same(found, detector(image))


def test_call__batches_have_at_most_the_pixels_of_all_threads(centerface_file, make_image):
    images = [make_image(64, 64, seed=i) for i in range(10)]
    detector = every_face(centerface_file(), max_per_img=20, max_pixels=64 * 64)
    runs = []
    run = detector.run
    detector.run = lambda blob: runs.append(blob.shape) or run(blob)
    together = detector(images)
    assert [shape[0] for shape in runs] == [4, 4, 2]
    for image, found in zip(images, together, strict=True):
        assert_same(found, detector(image))


def test_call__reads_the_centerface_of_ascend(centerface_file, make_image):
    names = [f'output{i}' for i in (1, 2, 3, 4)]
    detector = every_face(centerface_file(names=names, source='image', shape=(1, 3, 128, 128)))
    assert (detector.spec.size, detector.batch_size) == ((128, 128), 1)
    found = detector(make_image(60, 100))
    assert 0 < len(found) <= 200
    assert found[0].keypoints.shape == (5, 2)


def test_call__keeps_threads_apart(scrfd_file, make_image):
    detector = every_face(scrfd_file(rank=4, spec=SPEC), threads=1)
    images = [make_image(90, 128, seed=i) for i in range(24)]
    expected = [detector(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(detector, images), expected, strict=True):
            assert_same(found, alone)


@pytest.mark.parametrize(
    'shape', [(1, 1, 3), (20, 20000, 3), (20000, 20, 3), (50, 60), (50, 60, 4)]
)
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_call__takes_any_image(scrfd_file, centerface_file, shape, dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for file in (scrfd_file(), centerface_file()):
            for face in every_face(file, max_per_img=5, score_thr=0.4)(image):
                assert np.isfinite(face.bbox).all()


@pytest.mark.parametrize('image', [None, 'people.jpg', np.zeros((0, 0, 3), np.uint8), 3])
def test_call__refuses_what_is_no_image(scrfd_file, image):
    detector = every_face(scrfd_file())
    for given in (image, [image]):
        with pytest.raises(ValueError, match=r'^image'):
            detector(given)


def test_options__replace_those_of_the_file(scrfd_file, make_image):
    file, image = scrfd_file(rank=4, spec=SPEC), make_image(200, 300)
    every = every_face(file)(image)
    certain = every_face(file, score_thr=0.9)(image)
    assert [f.score for f in certain] == [f.score for f in every if f.score > 0.9]
    assert len(every_face(file, max_per_img=3)(image)) == 3
    assert len(every_face(file, nms_iou=0)(image)) > len(every)
    detector = every_face(file, size=(64, 64), threads=1, providers=['CPUExecutionProvider'])
    assert detector.place(image)[1].size == (64, 64)


def test_threshold__is_that_of_the_inferencer_unless_asked_for(scrfd_file):
    file = scrfd_file(rank=4, spec=SPEC)
    assert FaceDetector(file).spec.score_thr == 0.5
    assert FaceDetector(file, score_thr=None).spec.score_thr == SPEC.score_thr == 0.02
    with pytest.raises(ValueError, match='score_thr: expected a number from 0 to 1, found 2'):
        FaceDetector(file, score_thr=2)


def test_insightface__is_the_recipe_of_that_package(scrfd_file, make_image):
    detector = every_face(scrfd_file(), compat='insightface', size=SIZE)
    spec = detector.spec
    assert (spec.nms_iou, spec.nms_offset, spec.clip) == (0.4, 1, False)
    image = make_image(201, 300)
    assert detector.place(image)[1].content == (85, 128)
    assert every_face(scrfd_file(), size=SIZE).place(image)[1].content == (86, 128)
    assert min(face.bbox.min() for face in detector(image)) < 0


def test_tight__pads_less(scrfd_file, make_image):
    detector = every_face(scrfd_file(), size=(128, 128), canvas='tight')
    assert detector.place(make_image(60, 128))[1].size == (64, 128)
    # This network sees each cell separately, so the padding changes nothing.
    full = every_face(scrfd_file(), size=(128, 128), score_thr=0.5)
    tight = every_face(scrfd_file(), size=(128, 128), canvas='tight', score_thr=0.5)
    image = make_image(64, 128)
    assert_same(tight(image), [f for f in full(image) if f.bbox[3] < 64 or f.bbox[1] < 64])


def test_spec__can_be_given_for_unknown_files(scrfd_file, make_image, found_by_maps):
    file = scrfd_file(rank=4, names=[f'x{i}' for i in range(9)])
    with pytest.raises(ValueError, match=r'unknown layout.*x0') as error:
        every_face(file)
    assert str(file) in str(error.value)
    assert_same(every_face(file, spec=SPEC)(make_image(200, 300)), found_by_maps)


def test_blob__is_of_the_type_that_the_file_wants(scrfd_file, make_image, found_by_maps):
    image = make_image(200, 300)
    detector = every_face(scrfd_file(rank=4, spec=SPEC, input_type=TensorProto.FLOAT16))
    assert detector.blob(*zip(detector.place(image), strict=True)).dtype == np.float16
    assert_same(detector(image)[:3], found_by_maps[:3], atol=0.1)
    inside = replace(SPEC, normalized_inside=True)
    detector = every_face(scrfd_file(rank=4, spec=inside, input_type=TensorProto.UINT8))
    pixels, placement = detector.place(image)
    blob = detector.blob([pixels], [placement])
    rows = placement.content[0]
    np.testing.assert_array_equal(blob[0, :, :rows], pixels.transpose(2, 0, 1)[::-1])
    assert (blob[0, :, rows:] == 128).all()
    assert len(detector(image)) > 0
    with pytest.raises(ValueError, match=r'one input of type .* found input.1 tensor.int32'):
        every_face(scrfd_file(input_type=TensorProto.INT32))


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(size=(100, 128)), r'100x128.*multiples of 32; the next ones are 128, 128'),
        (dict(size=(0, 128)), 'multiples of 32'),
        (dict(size=(64,)), 'expected height and width'),
        (dict(compat='none'), 'expected one of None, insightface'),
        (dict(canvas='none'), 'expected one of full, tight'),
        (dict(providers=['CoffeeExecutionProvider']), 'Coffee.*this onnxruntime has CPU|has Azure'),
    ],
)
def test_init__refuses_options(scrfd_file, options, message):
    with pytest.raises(ValueError, match=message):
        every_face(scrfd_file(), **options)


def test_init__refuses_what_does_not_fit_the_file(scrfd_file, centerface_file):
    fixed = scrfd_file(sides=SIZE)
    with pytest.raises(ValueError, match=r'fixed to 96x128, .*Transpose.*: do not set the size'):
        every_face(fixed, size=(64, 64))
    with pytest.raises(ValueError, match='one side is fixed'):
        every_face(scrfd_file(sides=(96, 'W')))
    assert every_face(scrfd_file(sides=(96, 'W')), size=SIZE).spec.size == SIZE
    with pytest.raises(ValueError, match=r"'tight' needs dynamic sides .* is fixed"):
        every_face(fixed, canvas='tight')
    with pytest.raises(ValueError, match="filled by the resize 'stretch'"):
        every_face(centerface_file(), canvas='tight')
    with pytest.raises(ValueError, match="'insightface' is for SCRFD, this is centerface"):
        every_face(centerface_file(), compat='insightface')


def test_init__refuses_files_that_are_no_networks(tmp_path, scrfd_file):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        every_face(tmp_path / 'missing.onnx')
    whole = scrfd_file().read_bytes()
    for name, content in (
        ('empty', b''),
        ('text', b'this is no network\n' * 9),
        ('half', whole[: len(whole) // 2]),
    ):
        path = tmp_path / f'{name}.onnx'
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f'{name}.onnx: expected an ONNX file'):
            every_face(path)
