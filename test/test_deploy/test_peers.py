# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What tools/deploy/README.md says about other packages, and how our runtime relates to it.

The recorded results are compared with ours everywhere, and with the package where it is installed.
"""

from __future__ import annotations

import importlib.util

import cv2
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from mmface.deploy.export.export import export_onnx
from mmface.deploy.export.options import ExportOptions
from mmface.deploy.runtime.nms import nms

# The second box is half of the first, the fourth a quarter of the third.
BOXES = np.array([[0, 0, 8, 8], [0, 0, 8, 4], [20, 20, 28, 28], [20, 20, 24, 24]], np.float32)
SCORES = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
TIES = np.array([[10, 10, 50, 50], [12, 10, 52, 50], [14, 10, 54, 50]], np.float32)
#: Package, version, result.
OPENVINO = '2026.4.1', {0.6: [0, 1, 2, 3], 0.5: [0, 2, 3], 0.3: [0, 2, 3], 0.25: [0, 2]}
UNIFACE = '4.2.1', [2]
INSIGHTFACE = '2.1', {0.49: [0], 0.51: [0, 1]}  # IoU 0.5 with a pixel added to each side, else 0.44


def need(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f'{name} is not installed: pip install "mmface[peers]"')


def test_equal_iou__is_kept_by_ours_and_dropped_by_openvino():
    for threshold, theirs in OPENVINO[1].items():
        ours = sorted(nms(BOXES, SCORES, threshold))
        assert (ours == theirs) == (threshold not in (0.5, 0.25))
        assert set(theirs) <= set(ours)


def test_ties__are_decided_by_order_and_the_other_way_round_by_uniface():
    scores = np.full(len(TIES), 0.5, np.float32)
    assert nms(TIES, scores, 0.4).tolist() == [0]
    assert len(TIES) - 1 - nms(TIES[::-1], scores, 0.4) == UNIFACE[1]


def test_offset__is_that_of_insightface():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 4]], np.float32)
    for threshold, theirs in INSIGHTFACE[1].items():
        assert nms(boxes, SCORES[:2], threshold, offset=1).tolist() == theirs
        assert nms(boxes, SCORES[:2], threshold).tolist() == [0, 1]


def test_openvino__is_still_so(tmp_path):
    need('openvino')
    import openvino

    for threshold, theirs in OPENVINO[1].items():
        values = {'most': np.int64([10]), 'iou': np.float32([threshold]), 'low': np.float32([0])}
        node = helper.make_node('NonMaxSuppression', ['boxes', 'scores', *values], ['kept'])
        graph = helper.make_graph(
            [node],
            'nms',
            [
                helper.make_tensor_value_info('boxes', TensorProto.FLOAT, [1, 4, 4]),
                helper.make_tensor_value_info('scores', TensorProto.FLOAT, [1, 1, 4]),
            ],
            [helper.make_tensor_value_info('kept', TensorProto.INT64, ['n', 3])],
            [numpy_helper.from_array(value, name) for name, value in values.items()],
        )
        path = tmp_path / 'nms.onnx'
        opsets = [helper.make_opsetid('', 11)]
        save(helper.make_model(graph, opset_imports=opsets, ir_version=6), str(path))
        network = openvino.Core().compile_model(str(path), 'CPU')
        rows = network({'boxes': BOXES[None], 'scores': SCORES[None, None]})[0]
        assert sorted(row[2] for row in rows if row[0] == 0) == theirs


def test_uniface__is_still_so():
    need('uniface')
    from uniface.common import non_max_suppression

    rows = np.column_stack([TIES, np.full(len(TIES), 0.5, np.float32)])
    assert list(non_max_suppression(rows, 0.4)) == UNIFACE[1]


def test_insightface__is_still_so():
    need('insightface')
    from insightface.model_zoo.scrfd import SCRFD

    detector = SCRFD.__new__(SCRFD)  # its NMS needs no file
    rows = np.array([[0, 0, 9, 9, 0.9], [0, 0, 9, 4, 0.8]], np.float32)
    for detector.nms_thresh, theirs in INSIGHTFACE[1].items():
        assert [int(i) for i in detector.nms(rows)] == theirs


@pytest.mark.parametrize(
    'config', ['scrfd/scrfd_500m_bnkps.py', 'centerface/centerface_starclouds.py']
)
def test_opencv__reads_our_files_at_changing_sizes(detector, tmp_path, config):
    """Norms behind ConvTransposes are folded when we export, and resizes are asymmetric."""
    path = tmp_path / 'face.onnx'
    export_onnx(*detector(config), path, ExportOptions(dynamic=True))
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    network = cv2.dnn.readNetFromONNX(str(path))
    for side in (64, 96, 128, 64):
        x = np.random.default_rng(side).uniform(-1, 1, (1, 3, side, side)).astype(np.float32)
        network.setInput(x)
        right = session.run(None, {session.get_inputs()[0].name: x})
        for ours, theirs in zip(right, network.forward(names), strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-3)
