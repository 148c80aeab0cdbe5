# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Drawing of detections."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmface.utils.draw import CLASS_COLOURS
from mmface.visualization.face_visualizer import FaceVisualizer


def _sample(scores):
    n = len(scores)
    points = torch.tensor([[50.0, 40, 1], [70, 40, 1], [60, 55, 1], [52, 65, 1], [68, 65, 0]])
    pred = InstanceData(
        bboxes=torch.tensor([[40.0, 30, 80, 80]]).repeat(n, 1),
        scores=torch.tensor(scores),
        labels=torch.zeros(n, dtype=torch.long),
        keypoints=points.repeat(n, 1, 1),
    )
    return DetDataSample(pred_instances=pred)


def test_add_datasample__writes_the_image_without_weak_predictions(tmp_path):
    out = tmp_path / 'sub' / 'a.png'
    image = np.zeros((120, 160, 3), np.uint8)
    image[..., 0] = 200  # red
    visualizer = FaceVisualizer(name='test_face_visualizer')
    visualizer.add_datasample('a', image, _sample([0.2]), out_file=str(out), pred_score_thr=0.3)
    written = cv2.imread(str(out))[..., ::-1]
    np.testing.assert_array_equal(written, image)
    visualizer.add_datasample('a', image, _sample([0.2, 0.5]), out_file=str(out))
    assert not np.array_equal(cv2.imread(str(out))[..., ::-1], image)
    np.testing.assert_array_equal(visualizer.get_image(), cv2.imread(str(out))[..., ::-1])


def test_add_datasample__classes_have_colours_and_names():
    image = np.zeros((120, 160, 3), np.uint8)
    visualizer = FaceVisualizer(name='test_face_visualizer_classes')
    drawn = []
    for names in (('face', 'mask'), ('face', 'head')):
        visualizer.dataset_meta = dict(classes=names)
        for label in (0, 1):
            sample = _sample([0.9])
            sample.pred_instances.labels[:] = label
            visualizer.add_datasample('a', image, sample)
            drawn.append(visualizer.get_image())
    assert drawn[0][60, 40].tolist() == list(CLASS_COLOURS[0])
    assert drawn[1][60, 40].tolist() == list(CLASS_COLOURS[1])
    # Only the written name differs.
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[1][:30], drawn[3][:30])
    np.testing.assert_array_equal(drawn[1][31:], drawn[3][31:])


def test_figure__is_made_when_a_drawing_method_of_mmengine_needs_it():
    image = np.full((40, 60, 3), 7, np.uint8)
    visualizer = FaceVisualizer(name='test_face_visualizer_figure')
    assert 'fig_save' not in vars(visualizer)
    visualizer.set_image(image)
    visualizer.draw_bboxes(np.array([[10, 10, 30, 30]]), edge_colors='r', line_widths=1)
    drawn = super(FaceVisualizer, visualizer).get_image()
    assert drawn.shape == image.shape
    assert drawn[5, 5].tolist() == [7, 7, 7]
    assert drawn[10, 20, 0] > 100
    given = FaceVisualizer('test_face_visualizer_image', image)
    np.testing.assert_array_equal(super(FaceVisualizer, given).get_image(), image)
    with np.testing.assert_raises(AttributeError):
        visualizer.nothing  # noqa: B018


def test_inherited_methods__draw_on_an_image_that_is_set():
    visualizer = FaceVisualizer(name='inherited')
    image = np.full((40, 50, 3), 90, np.uint8)
    visualizer.set_image(image)
    visualizer.draw_bboxes(np.array([5, 5, 30, 30]))
    drawn = visualizer.get_image()
    assert drawn.shape == image.shape
    assert (drawn != image).any()
