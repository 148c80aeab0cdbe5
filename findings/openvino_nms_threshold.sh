#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# OpenVINO's NMS drops a box whose overlap equals the threshold
#
# Versions:  openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.23.2
# Expected:  NonMaxSuppression of ONNX removes a box if its IoU is greater than the threshold.
# Seen:      OpenVINO also removes a box whose IoU equals the threshold; onnxruntime keeps it. Boxes
#            of 8x8 and 8x4 pixels in a corner have an IoU of exactly 0.5.
# Matters:   Boxes on whole pixels, drawn faces and quantised outputs have such overlaps, and then
#            two engines count other faces with the same file.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.2.6 || exit 2
env/bin/python - << 'PY'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

# The second box is half of the first, the fourth a quarter of the third: all numbers are exact.
boxes = np.array([[0, 0, 8, 8], [0, 0, 8, 4], [20, 20, 28, 28], [20, 20, 24, 24]], np.float32)
scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)


def kept(threshold):
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
        [numpy_helper.from_array(v, k) for k, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 11)], ir_version=6)
    onnx.checker.check_model(model)
    onnx.save(model, 'nms.onnx')
    x = {'boxes': boxes[None], 'scores': scores[None, None]}
    first = onnxruntime.InferenceSession('nms.onnx').run(None, x)[0]
    second = openvino.Core().compile_model('nms.onnx', 'CPU')(x)[0]
    # OpenVINO fills up with rows of -1.
    return [sorted(int(row[2]) for row in rows if row[0] == 0) for rows in (first, second)]


for threshold in (0.6, 0.5, 0.3, 0.25, 0.2):
    print('threshold', threshold, 'onnxruntime keeps', *kept(threshold)[:1], 'OpenVINO', kept(threshold)[1])
assert kept(0.6) == [[0, 1, 2, 3]] * 2
assert kept(0.5) == [[0, 1, 2, 3], [0, 2, 3]]
assert kept(0.3) == [[0, 2, 3]] * 2
assert kept(0.25) == [[0, 2, 3], [0, 2]]
assert kept(0.2) == [[0, 2]] * 2
PY
