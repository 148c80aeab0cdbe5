# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of FaceInferencer."""

from __future__ import annotations

import inspect
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from mmface import config_path
from mmface.apis import FaceInferencer
from mmface.apis.config import load_config
from mmface.apis.inferencer import check_device
from mmface.deploy.runtime import FaceDetector
from mmface.weights.convert import build_model, convert

SCRFD = 'scrfd_500m_bnkps'


# Small images: random weights find faces in every cell.
SMALL = """
_base_ = {base!r}
test_pipeline = [
    dict(type='LoadFaceImage'),
    {resize},
    dict(type='LoadFaceAnnotations'),
    dict(type='PackFaceInputs'),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(data_preprocessor=dict(pad_size={pad}))
"""
RESIZE = "dict(type='FaceResize', scale=(96, 96), keep_ratio=True)"
LETTERBOX = "dict(type='FaceLetterbox', size=96)"


def _model(folder, name, resize=RESIZE, pad=None):
    """Write a small config based on the config ``name``, and random weights for it."""
    config = folder / f'{name}_small.py'
    config.write_text(SMALL.format(base=str(config_path(name)), resize=resize, pad=pad))
    torch.manual_seed(0)
    torch.save({'state_dict': build_model(config).state_dict()}, folder / 'w.pth')
    return config, folder / 'w.pth'


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return _model(tmp_path_factory.mktemp('model'), SCRFD, pad=(96, 96))


@pytest.fixture(scope='module')
def weights(model):
    return model[1]


@pytest.fixture(scope='module')
def detector(model):
    return FaceInferencer(*model, device='cpu', show_progress=False)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Return a folder with two images of different sizes, and their arrays."""
    folder = tmp_path_factory.mktemp('in') / 'photos'
    (folder / 'sub').mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((48, 64), (70, 40))]
    for name, image in zip(('a.png', 'sub/b.png'), images, strict=True):
        assert cv2.imwrite(str(folder / name), image)
    return folder, images


def _rows(faces):
    """Return all numbers of each face as a row."""
    rows = [
        np.concatenate([[f.score], f.bbox, np.ravel([] if f.keypoints is None else f.keypoints)])
        for f in faces
    ]
    return np.array(rows, float)


def _assert_same(found, expected, atol=1e-3):
    """Compare in any order, because with random weights many faces have the same score."""
    assert len(found) == len(expected) > 0
    away = np.abs(_rows(found)[:, None] - _rows(expected)).max(axis=-1)
    assert away.min(axis=0).max() < atol
    assert away.min(axis=1).max() < atol


def test_call__path_array_list_and_folder_agree(detector, photos):
    folder, images = photos
    one = detector(images[0])
    assert one[0].bbox.shape == (4,)
    assert one[0].keypoints.shape == (5, 2)
    scores = [face.score for face in one]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.5
    _assert_same(detector(folder / 'a.png'), one)
    _assert_same(detector(str(folder / 'a.png')), one)
    for found in (detector(folder, batch_size=2), detector([folder / 'a.png', images[1]])):
        assert len(found) == 2
        _assert_same(found[0], one)
        _assert_same(found[1], detector(images[1]))
    assert len(detector([images[0]])) == 1  # a list of one stays a list


def test_call__boxes_are_in_pixels_of_the_image(detector, photos):
    boxes = np.stack([face.bbox for face in detector(photos[1][1])])
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 40
    assert 40 < boxes[:, 3].max() <= 70


def test_call__threshold(detector, photos, monkeypatch):
    assert detector.score_thr == 0.5
    monkeypatch.setattr(detector, 'score_thr', 0.0)
    everything = detector(photos[1][0])
    some = everything[len(everything) // 2].score
    monkeypatch.setattr(detector, 'score_thr', some)
    assert [f.score for f in detector(photos[1][0])] == [
        face.score for face in everything if face.score > some
    ]
    monkeypatch.setattr(detector, 'score_thr', 1.0)
    assert detector(photos[1][0]) == []


def test_threshold__stands_where_the_runtime_has_it():
    places = []
    for kind in (FaceInferencer, FaceDetector):
        parameters = list(inspect.signature(kind).parameters.values())
        options = [each for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
        places.append((options[0].name, options[0].default))
    assert places == [('score_thr', 0.5)] * 2


def test_call__kinds_of_arrays(detector, photos):
    grey = photos[1][0][..., 0]
    expected = detector(np.dstack([grey] * 3))
    for image in (grey, grey[..., None], grey.astype(np.uint16) * 257, np.dstack([grey] * 4)):
        _assert_same(detector(image), expected)
    for shape in ((1, 1, 3), (5, 5000, 3), (5000, 5, 3)):
        assert isinstance(detector(np.zeros(shape, np.uint8)), list)


def test_call__images_out(detector, photos, tmp_path):
    folder, images = photos
    detector([folder, images[0]], out_dir=tmp_path / 'out')
    names = sorted(p.relative_to(tmp_path / 'out').as_posix() for p in tmp_path.rglob('*.png'))
    assert names == ['000002.png', 'photos/a.png', 'photos/sub/b.png']
    drawn = cv2.imread(str(tmp_path / 'out' / 'photos' / 'sub' / 'b.png'))
    assert drawn.shape == images[1].shape
    assert not np.array_equal(drawn, images[1])
    with pytest.raises(ValueError, match='would be overwritten'):
        detector(folder / 'a.png', out_dir=folder)


def test_call__two_results_of_the_same_name(detector, photos, tmp_path):
    copy = tmp_path / 'a.png'
    copy.write_bytes((photos[0] / 'a.png').read_bytes())
    with pytest.raises(ValueError, match='have the same name'):
        detector([photos[0] / 'a.png', copy], out_dir=tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_call__bad_input(detector, photos, tmp_path):
    (tmp_path / 'text.jpg').write_text('text')
    for bad, message in (
        ('http://a.org/b.jpg', 'is a URL'),
        (tmp_path / 'text.jpg', 'cannot be read'),
        (np.zeros((0, 0, 3), np.uint8), 'no pixels'),
        (np.zeros((4, 4, 3)), 'float64'),
        ([None], 'NoneType'),
    ):
        with pytest.raises(ValueError, match=message):
            detector(bad)
    with pytest.raises(FileNotFoundError, match='does not exist'):
        detector(tmp_path / 'none.jpg')
    with pytest.raises(ValueError, match='batch_size'):
        detector(photos[1][0], batch_size=0)


@pytest.mark.parametrize(
    ('name', 'resize'), [('centerface', LETTERBOX), ('centernet2_narrow_wider_face', RESIZE)]
)
def test_call__batches_of_other_models(name, resize, photos, tmp_path):
    """CenterNet2 pads to the largest image of a batch, so the images must not share a batch."""
    detector = FaceInferencer(
        *_model(tmp_path, name, resize), device='cpu', score_thr=None, show_progress=False
    )
    together = detector(photos[1], batch_size=2)
    for found, image in zip(together, photos[1], strict=True):
        _assert_same(found, detector(image), atol=0.01)
        assert (found[0].keypoints is None) == name.startswith('centernet2')
    if name == 'centerface':
        long = np.zeros((10, 40000, 3), np.uint8)
        if int(cv2.__version__.partition('.')[0]) < 5:  # its warp stores coordinates in 16 bits
            with pytest.raises(ValueError, match='of 40000x10 pixels'):
                detector(long)
        else:
            assert isinstance(detector(long), list)


def test_call__large_images_are_shrunk_where_they_keep_their_size(tmp_path):
    files = _model(tmp_path, 'centerface', "dict(type='FaceStretch', divisor=32)")
    sizes = []
    for limit in (10_000, None):
        detector = FaceInferencer(
            *files, device='cpu', score_thr=None, max_pixels=limit, show_progress=False
        )
        forward = detector.model.backbone.forward
        detector.model.backbone.forward = lambda x, f=forward: sizes.append(x.shape[-2:]) or f(x)
        faces = detector(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
        corners = np.stack([face.bbox for face in faces])
        assert corners[:, 2].max() > 300  # in pixels of the image
        assert corners[:, 3].max() > 220
    assert [tuple(size) for size in sizes] == [(96, 128), (320, 416)]


def test_init__wrong_weights(weights, tmp_path):
    with pytest.raises(ValueError, match='does not fit the model of this config'):
        FaceInferencer('scrfd_1g', weights, device='cpu')
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(weights.read_bytes()[:-5000])
    with pytest.raises(ValueError, match='is not a checkpoint'):
        FaceInferencer(SCRFD, cut, device='cpu')
    with pytest.raises(FileNotFoundError, match='does not exist'):
        FaceInferencer(SCRFD, tmp_path / 'none.pth', device='cpu')


def test_init__runs_no_code_of_the_checkpoint(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / 'hacked'), 'w'))

    torch.save({'state_dict': {}, 'meta': Evil()}, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match='could run code'):
        FaceInferencer(SCRFD, tmp_path / 'evil.pth', device='cpu')
    assert not (tmp_path / 'hacked').exists()


def test_classes__have_names_from_the_checkpoint_or_the_config(tmp_path):
    cfg = load_config('centernet2_toy')
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    names = tuple('abcde')
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    for number, meta in enumerate(({}, dict(dataset_meta=dict(classes=names)))):
        path = tmp_path / f'{number}.pth'
        torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
        faces = FaceInferencer('centernet2_toy', path, device='cpu', score_thr=None)(image)
        known = names if meta else cfg.test_dataloader.dataset.metainfo.classes
        assert faces
        assert all(face.class_name == known[face.label] for face in faces)


def test_check_device():
    assert check_device('cpu') == 'cpu'
    assert check_device(None) == check_device('auto')
    with pytest.raises(ValueError, match="device 'tpu' was requested"):
        check_device('tpu:0')


def test_apis__imports_no_torch_before_the_inferencer():
    code = (
        'import sys, mmface.apis, mmface.apis.detect.videos, mmface.apis.detect.render\n'
        'assert "torch" not in sys.modules\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=600)
    with pytest.raises(ImportError, match='Nonsense'):
        from mmface.apis import Nonsense  # noqa: F401


@pytest.mark.reference
def test_call__same_faces_as_without_torch(reference_dir, tmp_path):
    folder = reference_dir / 'data' / 'scrfd' / 'weights'
    converted = convert(folder / f'{SCRFD}_folded.pth', [config_path(SCRFD)])
    torch.save(converted.state_dict, tmp_path / 'w.pth')
    inferencer = FaceInferencer(SCRFD, tmp_path / 'w.pth', device='cpu')
    runtime = FaceDetector(folder / f'{SCRFD}.onnx')
    images = sorted((reference_dir / 'data/wider/WIDER_val/images').glob('9--*/*.jpg'))[:3]
    for path, found in zip(images, inferencer(images, batch_size=3), strict=True):
        _assert_same(found, runtime(cv2.imread(str(path))))
