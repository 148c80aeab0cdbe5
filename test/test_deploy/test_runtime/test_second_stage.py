# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of the steps before and after CenterNet2's second graph (test_round_trip tests it all)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmface.deploy.model_spec import METADATA_KEY, ModelSpec
from mmface.deploy.runtime import FaceDetector
from mmface.deploy.runtime.letterbox import Placement
from mmface.deploy.runtime.second_stage import SecondStage, second_file

SIZE = (64, 64)
SPEC = ModelSpec(
    'centernet2', 'proposals', SIZE, (0.0,) * 3, (1.0,) * 3, False,
    strides=(32,), num_priors=1, num_keypoints=0, num_classes=2, num_candidates=4,
    num_proposals=3, proposal_thr=0.1, proposal_iou=0.5, score_thr=0.3, nms_iou=0.5,
)  # fmt: skip
BOXES = np.array([[0, 0, 32, 32], [1, 0, 33, 32], [40, 40, 90, 60], [0, 0, 9, 9]], np.float32)
SCORES = np.array([0.9, 0.8, 0.7, 0.1], np.float32)


class Session:
    """Replace the second graph: boxes stay, and classes have the given probabilities."""

    def __init__(self, chances: list[list[float]]) -> None:
        self.chances = np.array(chances, np.float32)

    def get_inputs(self):
        names = ('feat_32', 'proposals', 'proposal_scores', 'limits')
        return [SimpleNamespace(name=name) for name in names]

    def run(self, names, values):
        self.names, self.values = names, values
        return values['proposals'], self.chances


def test_detect__chooses_proposals_and_suppresses_by_class():
    session = Session([[0.9, 0.4], [0.2, 0.8], [0, 0]])
    outputs = [BOXES[None], SCORES[None], np.ones((1, 7, 2, 2), np.float32)]
    place = Placement((2.0, 2.0), (0.0, 0.0), (60, 64), SIZE)
    (found,) = SecondStage(session, SPEC).detect(outputs, [place])
    # The second overlaps the first, the last is not above the threshold; a zero fills up.
    expected = [[0, 0, 32, 32], [40, 40, 90, 60], [0, 0, 0, 0]]
    assert session.values['proposals'].tolist() == expected
    np.testing.assert_allclose(session.values['proposal_scores'], [0.9, 0.7, 0])
    assert session.values['limits'].tolist() == [64, 60, 64, 60]
    assert session.values['feat_32'].shape == (1, 7, 2, 2)
    assert session.names == ['boxes', 'scores']
    # Clipped to the image of 30 x 32 pixels.
    assert found.bboxes.tolist() == [[0, 0, 16, 16], [20, 20, 32, 30], [0, 0, 16, 16]]
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.4])
    assert found.labels.tolist() == [0, 1, 1]


def test_detect__without_anything():
    session = Session([[0, 0]] * 3)
    outputs = [BOXES[None], SCORES[None] * 0, np.ones((1, 7, 2, 2), np.float32)]
    place = Placement((2.0, 2.0), (0.0, 0.0), SIZE, SIZE)
    (found,) = SecondStage(session, SPEC).detect(outputs, [place])
    assert (found.bboxes.shape, found.scores.shape) == ((0, 4), (0,))


def test_files__belong_together(tmp_path):
    assert second_file(Path('x/a_proposals.onnx')) == Path('x/a_rois.onnx')
    with pytest.raises(ValueError, match=r'ends in _proposals\.onnx'):
        second_file(Path('a.onnx'))
    with pytest.raises(ValueError, match='has the inputs feat_32'):
        SecondStage(Session([]), ModelSpec.from_json(SPEC.to_json().replace('[32]', '[16]')))
    path = tmp_path / 'a_proposals.onnx'
    write_first(path)
    with pytest.raises(FileNotFoundError, match=r'a_rois\.onnx'):
        FaceDetector(path)


def write_first(path: Path) -> None:
    """Write a file whose outputs are constants."""
    names = ('boxes', 'scores', 'feat_32')
    values = (BOXES[None], SCORES[None], np.ones((1, 7, 2, 2), np.float32))
    nodes = [helper.make_node('Identity', [f'c_{name}'], [name]) for name in names]
    graph = helper.make_graph(
        nodes,
        'first',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, (1, 3, *SIZE))],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
            for name, value in zip(names, values, strict=True)
        ],
        [
            numpy_helper.from_array(value, f'c_{name}')
            for name, value in zip(names, values, strict=True)
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: SPEC.to_json()})
    onnx.save(model, path)
