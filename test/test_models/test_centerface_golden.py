# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Star-Clouds' published network reproduces its maps, boxes and keypoints on a real image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from torch import nn

from helpers import config_file, load_config
from mmface.weights.convert import convert

pytestmark = pytest.mark.reference


@pytest.fixture(scope='module')
def folder(reference_dir) -> Path:
    return reference_dir / 'data' / 'centerface'


@pytest.fixture(scope='module')
def model(folder) -> nn.Module:
    cfg = load_config('centerface_starclouds')
    cfg.model.test_cfg.score_thr = 0.35  # as for the golden boxes
    network = MODELS.build(cfg.model).eval()
    weights = convert(
        folder / 'weights' / 'centerface_dequant_fp32.onnx', [config_file('centerface_starclouds')]
    )
    network.load_state_dict(weights.state_dict)
    return network


@torch.no_grad()
def detect(model: nn.Module, image: np.ndarray) -> DetDataSample:
    """Detect faces in a BGR image of a size that the network accepts."""
    sample = DetDataSample(metainfo=dict(img_shape=image.shape[:2], scale_factor=(1.0, 1.0)))
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    batch = model.data_preprocessor(dict(inputs=[pixels], data_samples=[sample]))
    return model(**batch, mode='predict')[0].pred_instances


def assert_equal_faces(found, golden) -> None:
    np.testing.assert_allclose(found.bboxes, golden['boxes'][:, :4], atol=1e-3)
    np.testing.assert_allclose(found.scores, golden['boxes'][:, 4], atol=1e-5)
    points = found.keypoints[..., :2].flatten(1)
    np.testing.assert_allclose(points, golden['lms'], atol=1e-3)


def test_maps__equal_the_golden_ones(model, folder):
    golden = np.load(folder / 'golden' / 'golden_000388_crop_320x224.npz')
    pixels = torch.from_numpy(golden['input_rgb_u8']).float()
    with torch.no_grad():
        heat, *others = model(pixels[None], mode='tensor')
    for found, name in zip(
        (heat.sigmoid(), *others), ('hm', 'scale', 'offset', 'landmarks'), strict=True
    ):
        assert np.abs(found.numpy() - golden[name]).max() < 1e-4, name


def test_predict__finds_the_28_faces_of_a_crop(model, folder):
    golden = np.load(folder / 'golden' / 'golden_000388_crop_320x224.npz')
    found = detect(model, golden['input_rgb_u8'].transpose(1, 2, 0)[..., ::-1])
    assert len(found) == 28
    assert_equal_faces(found, golden)


def test_predict__has_the_106_cells_of_a_crop_before_suppression(model, folder):
    golden = np.load(folder / 'golden' / 'golden_000388_crop_320x224.npz')
    maps = [torch.from_numpy(golden[name]) for name in ('hm', 'scale', 'offset', 'landmarks')]
    maps[0] = maps[0].double().logit().float()
    meta = dict(img_shape=(224, 320), scale_factor=(1.0, 1.0))
    found = model.bbox_head.predict_by_feat(*maps, batch_img_metas=[meta], with_nms=False)[0]
    order = np.argsort(-golden['raw_boxes'][:, 4], kind='stable')
    np.testing.assert_allclose(found.bboxes, golden['raw_boxes'][order, :4], atol=1e-3)


def test_predict__finds_the_145_faces_of_the_image(model, folder):
    golden = np.load(folder / 'golden' / 'golden_000388_1024x704_boxes.npz')
    image = cv2.imread(str(folder / 'golden' / '000388.jpg'))
    found = detect(model, cv2.resize(image, (1024, 704)))
    assert len(found) == 145
    assert_equal_faces(found, golden)


def test_pipeline__stretches_the_image_and_gives_original_pixels(model, folder):
    golden = np.load(folder / 'golden' / 'golden_000388_1024x704_boxes.npz')
    cfg = load_config('centerface_starclouds')
    pipeline = Compose([TRANSFORMS.build(step) for step in cfg.test_pipeline])
    data = pipeline(dict(img_path=str(folder / 'golden' / '000388.jpg'), img_id=0))
    batch = model.data_preprocessor(
        dict(inputs=[data['inputs']], data_samples=[data['data_samples']])
    )
    assert batch['inputs'].shape == (1, 3, 704, 1024)
    with torch.no_grad():
        found = model(**batch, mode='predict')[0].pred_instances
    scale = np.tile(golden['scale_xy'], 2)
    np.testing.assert_allclose(found.bboxes, golden['boxes'][:, :4] / scale, atol=1e-3)
