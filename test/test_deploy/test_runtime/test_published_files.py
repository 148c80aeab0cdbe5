# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Published networks return the boxes of torch, and those of their own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmface.deploy.runtime import FaceDetector
from mmface.structures import Face
from mmface.weights.convert import convert

pytestmark = pytest.mark.reference
SCRFD_FILES = ('scrfd_500m_bnkps', 'scrfd_500m_bnkps_old_export', 'scrfd_2.5g_bnkps_official')


@pytest.fixture(scope='module')
def weights(reference_dir) -> Path:
    return reference_dir / 'data' / 'scrfd' / 'weights'


@pytest.fixture(scope='module')
def files(reference_dir) -> list[Path]:
    """Return one image from each of the first events."""
    root = reference_dir / 'data' / 'wider' / 'WIDER_val' / 'images'
    return [sorted(event.glob('*.jpg'))[0] for event in sorted(root.iterdir())[:2]]


@pytest.fixture(scope='module')
def golden_dir(reference_dir) -> Path:
    return reference_dir / 'data' / 'centerface' / 'golden'


def assert_faces(
    found: Sequence[Face], boxes: np.ndarray, points: np.ndarray, atol: float = 1e-2
) -> None:
    """Compare with boxes (n, 5), whose last column is the score, and keypoints (n, 10).

    The order may differ: two networks round differently, and some scores are nearly equal.
    """
    assert len(found) == len(boxes) > 0
    rows = np.array([[*face.bbox, face.score] for face in found])
    order = np.abs(boxes[:, None] - rows).max(axis=2).argmin(axis=1)
    assert len(set(order)) == len(boxes)
    np.testing.assert_allclose(rows[order, :4], boxes[:, :4], atol=atol)
    np.testing.assert_allclose(rows[order, 4], boxes[:, 4], atol=1e-4)
    found_points = np.array([face.keypoints.ravel() for face in found])
    np.testing.assert_allclose(found_points[order], points, atol=atol)


def test_scrfd__equals_torch_on_images(repo, weights, files):
    config = repo / 'configs' / 'scrfd' / 'scrfd_500m_bnkps.py'
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    file = weights / 'scrfd_500m_bnkps.onnx'
    model.load_state_dict(convert(file, [config]).state_dict)
    pipeline = Compose([TRANSFORMS.build(step) for step in cfg.test_pipeline])
    detector = FaceDetector(file, score_thr=None)
    for path in files:
        data = pipeline(dict(img_path=str(path), img_id=0))
        batch = {key: [value] for key, value in data.items()}
        with torch.no_grad():
            expected = model.test_step(batch)[0].pred_instances
        boxes = np.column_stack([expected.bboxes, expected.scores])
        points = expected.keypoints[..., :2].flatten(1).numpy()
        assert_faces(detector(cv2.imread(str(path))), boxes, points)


def test_scrfd__generations_of_a_file_agree(weights, files):
    paths = (weights / f'{name}.onnx' for name in SCRFD_FILES[1::-1])
    old, new = (FaceDetector(path, score_thr=None) for path in paths)
    assert (old.batch_size, new.batch_size) == (1, 1)
    images = [cv2.imread(str(path)) for path in files[:2]]
    for found, expected in zip(old(images), new(images), strict=True):
        boxes = np.array([[*face.bbox, face.score] for face in expected])
        assert_faces(found, boxes, np.array([face.keypoints.ravel() for face in expected]))


def test_scrfd__takes_other_sizes_with_a_file_of_free_sides(weights, files, capfd):
    image = cv2.imread(str(files[1]))
    detector = FaceDetector(weights / f'{SCRFD_FILES[1]}.onnx', size=(480, 800), score_thr=0.5)
    assert len(detector(image)) > 0
    assert capfd.readouterr().err == ''  # the file declares outputs for 640x640


@pytest.mark.parametrize('name', SCRFD_FILES)
def test_scrfd__equals_the_insightface_package(weights, files, name):
    scrfd = pytest.importorskip('insightface.model_zoo.scrfd')
    file = weights / f'{name}.onnx'
    theirs = scrfd.SCRFD(str(file))
    theirs.prepare(-1)
    detector = FaceDetector(file, compat='insightface')
    for path in files:
        image = cv2.imread(str(path))
        boxes, points = theirs.detect(image, input_size=(640, 640))
        assert_faces(detector(image), boxes, points.reshape(len(points), -1))


@pytest.mark.parametrize('part', ['crop', 'whole'])
def test_star_clouds__equals_its_own_code(reference_dir, golden_dir, part):
    folder = reference_dir / 'data' / 'centerface' / 'weights'
    detector = FaceDetector(folder / 'centerface_dequant_fp32.onnx', score_thr=0.35)
    if part == 'crop':
        golden = np.load(golden_dir / 'golden_000388_crop_320x224.npz')
        image, scale, count = golden['input_rgb_u8'].transpose(1, 2, 0)[..., ::-1], (1, 1), 28
    else:
        golden = np.load(golden_dir / 'golden_000388_1024x704_boxes.npz')
        image, scale, count = cv2.imread(str(golden_dir / '000388.jpg')), golden['scale_xy'], 145
    assert len(golden['boxes']) == count
    boxes = golden['boxes'] / [*scale, *scale, 1]
    assert_faces(detector(image), boxes, golden['lms'] / np.tile(scale, 5), atol=1e-3)
