# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The exported file finds the same faces as torch, with every way to fit the image."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.registry import init_default_scope
from torch import nn

from mmface.apis.config import load_config
from mmface.deploy.export.export import export_onnx
from mmface.deploy.export.options import ExportOptions
from mmface.deploy.export.two_stage import export_two_stage
from mmface.deploy.runtime import FaceDetector
from mmface.models.task_modules.centerface_coder import CenterFaceCoder

SIDE = 128
#: In the middle of the canvas, with an offset; and in the top-left corner.
RESIZES = {
    'letterbox': dict(type='FaceLetterbox', size=SIDE),
    'left-top': dict(type='FaceResize', scale=(SIDE, SIDE), keep_ratio=True),
}


@pytest.fixture(scope='module')
def image():
    """Draw 100 x 150 pixels (height x width), so that the letterbox has an offset in y."""
    coarse = np.random.default_rng(3).integers(0, 256, (10, 15, 3), np.uint8)
    return np.kron(coarse, np.ones((10, 10, 1), np.uint8))


@pytest.fixture(scope='module')
def two_stage(repo):
    """Return config and model of a narrow CenterNet2 for faces, whose weights vary the boxes."""
    cfg = load_config(str(repo / 'configs/centernet2/centernet2_narrow_wider_face.py'))
    init_default_scope(cfg.default_scope)
    cfg.model.test_cfg.rpn.update(nms_pre=100, max_per_img=64, score_thr=0.0)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    nn.init.constant_(model.rpn_head.conv_reg.bias, 3)  # boxes of 6 or more cells: some extend out
    for module in model.roi_head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.05)
    return cfg, model


def resized(cfg, resize):
    """Copy a config with another way to fit images."""
    cfg = copy.deepcopy(cfg)
    steps = [dict(type='LoadFaceImage'), RESIZES[resize], dict(type='PackFaceInputs')]
    cfg.test_dataloader.dataset.pipeline = steps
    cfg.model.data_preprocessor.pad_size = (SIDE, SIDE)
    return cfg


def by_torch(cfg, model, image):
    """Test an image as tools/test.py does: rows (n, 4 + 1 + 1 + 2K), highest score first."""
    pipeline = Compose([TRANSFORMS.build(step) for step in cfg.test_dataloader.dataset.pipeline])
    data = pipeline(dict(img=image, img_id=0))
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    batch = preprocessor({key: [value] for key, value in data.items()})
    with torch.no_grad():
        (sample,) = model.predict(batch['inputs'], batch['data_samples'], rescale=True)
    found = sample.pred_instances
    assert ('pad_offset' in sample) == (sample.img_shape == (SIDE, SIDE))
    points = found.keypoints[..., :2].flatten(1) if 'keypoints' in found else found.bboxes[:, :0]
    # Differences of labels are far above every tolerance.
    labels = 100.0 * found.labels[:, None]
    return torch.cat([found.bboxes, found.scores[:, None], labels, points], 1).numpy()


def by_file(path, image):
    (found,) = FaceDetector(path, score_thr=None).detect([image])
    points = found.bboxes[:, :0] if found.keypoints is None else found.keypoints
    count = len(found.scores)
    labels = np.zeros(count) if found.labels is None else 100.0 * found.labels
    columns = [found.bboxes, found.scores[:, None], labels[:, None], points.reshape(count, -1)]
    return np.concatenate(columns, 1)


def assert_same(ours, theirs, least=20):
    """Compare rows in any order, because some scores are nearly equal."""
    assert len(ours) == len(theirs) >= least
    nearest = np.abs(ours[:, None] - theirs).max(axis=2).argmin(axis=0)
    np.testing.assert_allclose(ours[nearest], theirs, rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize('resize', RESIZES)
@pytest.mark.parametrize(
    ('name', 'layout'),
    [
        ('scrfd/scrfd_500m_bnkps.py', 'raw'),
        ('scrfd/scrfd_500m_bnkps.py', 'insightface'),
        ('scrfd/scrfd_500m_bnkps.py', 'decoded'),
        ('centerface/centerface.py', 'raw'),
        ('centerface/centerface.py', 'centerface'),
        ('centerface/centerface.py', 'decoded'),
        ('centerface/centerface_starclouds.py', 'starclouds'),
    ],
)
def test_one_stage__equals_torch(detector, image, tmp_path, name, layout, resize):
    cfg, model = detector(name)
    cfg = resized(cfg, resize)
    path = tmp_path / 'a.onnx'
    export_onnx(cfg, model, path, ExportOptions(layout))
    assert_same(by_file(path, image), by_torch(cfg, model, image))


@pytest.mark.parametrize(
    ('name', 'layout'),
    [
        ('scrfd/scrfd_500m_bnkps.py', 'raw'),
        ('scrfd/scrfd_500m_bnkps.py', 'insightface'),
        ('scrfd/scrfd_500m_bnkps.py', 'decoded'),
        ('centerface/centerface.py', 'raw'),
        ('centerface/centerface.py', 'decoded'),
        ('centerface/centerface_starclouds.py', 'starclouds'),
    ],
)
def test_one_stage__of_several_classes_and_seven_keypoints_equals_torch(
    detector, image, tmp_path, name, layout
):
    cfg, model = detector(name, num_classes=3, num_keypoints=7)
    cfg = resized(cfg, 'letterbox')
    model.dataset_meta = dict(classes=('face', 'head', 'mask'))
    path = tmp_path / 'a.onnx'
    result = export_onnx(cfg, model, path, ExportOptions(layout), ())
    assert (result.spec.num_classes, result.spec.num_keypoints) == (3, 7)
    theirs = by_torch(cfg, model, image)
    assert_same(by_file(path, image), theirs)
    assert {*theirs[:, 5]} == {0, 100, 200}
    # The runtime gives names to the same labels, and suppresses each class apart.
    faces = FaceDetector(path, score_thr=None)(image)
    assert {(face.label, face.class_name) for face in faces} == {
        (0, 'face'), (1, 'head'), (2, 'mask')
    }  # fmt: skip
    assert faces[0].keypoints.shape == (7, 2)


@pytest.mark.parametrize('resize', RESIZES)
def test_two_stages__equal_torch(two_stage, image, tmp_path, resize):
    cfg, model = two_stage
    cfg = resized(cfg, resize)
    options = ExportOptions(size=(SIDE, SIDE), opset=17)
    (path, _), _ = export_two_stage(cfg, model, tmp_path / 'a.onnx', options)
    theirs = by_torch(cfg, model, image)
    assert_same(by_file(path, image), theirs)
    # Clipped to the image, not to the canvas.
    assert theirs[:, :4].min() == 0
    assert theirs[:, 2].max() <= 150 and theirs[:, 3].max() <= 100


class Halved(nn.Module):
    """A neck whose maps have sides half as long."""

    def __init__(self, neck: nn.Module) -> None:
        super().__init__()
        self.neck = neck

    def forward(self, feats):
        return tuple(F.avg_pool2d(feat, 2) for feat in self.neck(feats))


@pytest.mark.parametrize('layout', ['raw', 'centerface', 'decoded'])
@pytest.mark.parametrize('convention', ['centernet', 'star_clouds', 'mindspore'])
def test_centerface__of_another_stride_equals_torch(detector, image, tmp_path, convention, layout):
    cfg, trained = detector('centerface/centerface.py')
    cfg = resized(cfg, 'letterbox')
    model = copy.deepcopy(trained)
    model.neck = Halved(model.neck)
    model.bbox_head.coder = CenterFaceCoder(convention, stride=8)
    path = tmp_path / 'a.onnx'
    result = export_onnx(cfg, model, path, ExportOptions(layout))
    assert result.spec.strides == (8,)
    assert_same(by_file(path, image), by_torch(cfg, model, image), least=8)
