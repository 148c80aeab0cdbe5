# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Drawing."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmface.utils.draw import FACE_COLOUR, LANDMARK_COLOURS, draw_faces
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


def test_draw_faces__box_and_present_landmarks():
    grey = np.full((120, 160, 3), 90, np.uint8)
    grey.setflags(write=False)
    found = _sample([0.9]).pred_instances.numpy()
    drawn = draw_faces(grey, found.bboxes, found.scores, found.keypoints)
    assert tuple(drawn[60, 40]) == FACE_COLOUR
    for k, (x, y) in enumerate([(50, 40), (70, 40), (60, 55), (52, 65)]):
        assert tuple(drawn[y, x]) == LANDMARK_COLOURS[k]
    assert tuple(drawn[65, 68]) == (90, 90, 90)  # weight 0


def test_draw_faces__boxes_outside_the_picture():
    grey = np.full((40, 40, 3), 90, np.uint8)
    boxes = np.array([[-50.0, -50, 500, 500], [100, 100, 90, 90]])
    assert draw_faces(grey, boxes, np.array([0.5, 0.2])).shape == grey.shape
    np.testing.assert_array_equal(draw_faces(grey, np.zeros((0, 4)), np.zeros(0)), grey)


def test_add_datasample__writes_the_picture_without_weak_predictions(tmp_path):
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
