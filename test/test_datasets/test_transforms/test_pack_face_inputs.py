# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Samples in the form that models get."""

from __future__ import annotations

import numpy as np
import torch

from mmface.datasets.transforms import PackFaceInputs


def make_results(**extra) -> dict:
    return dict(
        img=np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
        img_id='a/1.jpg',
        img_path='x/a/1.jpg',
        ori_shape=(4, 8),
        img_shape=(2, 4),
        gt_bboxes=np.array([[0, 0, 1, 1], [1, 1, 2, 2], [2, 0, 3, 1]], np.float32),
        gt_bboxes_labels=np.zeros(3, np.int64),
        gt_keypoints=np.arange(45, dtype=np.float32).reshape(3, 5, 3),
        gt_ignore_flags=np.array([False, True, False]),
        **extra,
    )


def test_pack__faces_to_learn_and_ignored_ones_apart():
    packed = PackFaceInputs()(make_results())
    assert packed['inputs'].dtype == torch.uint8
    assert packed['inputs'].shape == (3, 2, 4)
    assert packed['inputs'][1].tolist() == [[1, 4, 7, 10], [13, 16, 19, 22]]
    sample = packed['data_samples']
    assert sample.gt_instances.bboxes.tolist() == [[0, 0, 1, 1], [2, 0, 3, 1]]
    assert sample.gt_instances.labels.tolist() == [0, 0]
    assert sample.gt_instances.keypoints[1, 0].tolist() == [30, 31, 32]
    assert sample.ignored_instances.bboxes.tolist() == [[1, 1, 2, 2]]
    assert sample.ignored_instances.keypoints.shape == (1, 5, 3)


def test_pack__metainfo_is_complete():
    meta = PackFaceInputs()(make_results())['data_samples'].metainfo
    assert meta['scale_factor'] == (1.0, 1.0)
    assert (meta['flip'], meta['flip_direction']) == (False, None)
    assert (meta['img_id'], meta['ori_shape'], meta['img_shape']) == ('a/1.jpg', (4, 8), (2, 4))
    changed = PackFaceInputs()(make_results(scale_factor=(0.5, 0.25), flip=True))
    assert changed['data_samples'].scale_factor == (0.5, 0.25)
    assert changed['data_samples'].flip is True


def test_pack__a_image_without_faces():
    results = make_results()
    for key in [key for key in results if key.startswith('gt_')]:
        results[key] = results[key][:0]
    instances = PackFaceInputs()(results)['data_samples'].gt_instances
    assert instances.bboxes.shape == (0, 4)
    assert instances.keypoints.shape == (0, 5, 3)


def test_pack__image_is_a_copy_and_contiguous():
    """Transforms reuse their memory, and the packed image must not change with it."""
    results = make_results()
    img = results['img'] = results['img'][:, ::-1]
    inputs = PackFaceInputs()(results)['inputs']
    want = np.ascontiguousarray(img.transpose(2, 0, 1))
    img[:] = 0
    assert inputs.is_contiguous()
    np.testing.assert_array_equal(inputs.numpy(), want)


def test_pack__labels_without_ignore_flags_are_to_be_learned():
    results = make_results()
    del results['gt_ignore_flags']
    sample = PackFaceInputs()(results)['data_samples']
    assert len(sample.gt_instances) == 3
    assert len(sample.ignored_instances) == 0
