#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# OpenCV 5: a variable beats the engine that the program asks for
#
# Versions:  opencv-python-headless 5.0.0.93, onnxruntime 1.32.0, onnx 1.23.2
# Expected:  Both engines of cv2.dnn compute the same, and engine=ENGINE_NEW gives the new one.
# Seen:      The classic engine (the only one of OpenCV 4) computes Resize nearest with half_pixel
#            and floor as if it were asymmetric, without a word. The new engine is right, but if the
#            environment has OPENCV_FORCE_DNN_ENGINE=1, a program that asks for it gets the classic
#            one.
# Matters:   Feature pyramids enlarge maps with Resize. Moved by half a cell, boxes of small faces
#            are displaced, and scores fall.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 || exit 2
cat > finding.py << 'PY'
import os
import subprocess
import sys

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

if not os.path.exists('resize.onnx'):
    values = {'roi': np.float32([]), 'scales': np.float32([1, 1, 2, 2])}
    node = helper.make_node(
        'Resize',
        ['x', *values],
        ['y'],
        mode='nearest',
        coordinate_transformation_mode='half_pixel',
        nearest_mode='floor',
    )
    graph = helper.make_graph(
        [node],
        'resize',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, 1, 8, 8])],
        [numpy_helper.from_array(v, k) for k, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 11)], ir_version=6)
    onnx.checker.check_model(model)
    onnx.save(model, 'resize.onnx')

x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
right = onnxruntime.InferenceSession('resize.onnx').run(None, {'x': x})[0]


def is_right(engine):
    network = cv2.dnn.readNetFromONNX('resize.onnx', engine=engine)
    network.setInput(x)
    found = network.forward()
    print(f'engine {engine}:', found[0, 0, 0].tolist(), 'onnxruntime', right[0, 0, 0].tolist())
    return np.array_equal(found, right)


if 'OPENCV_FORCE_DNN_ENGINE' in os.environ:
    sys.exit(is_right(cv2.dnn.ENGINE_NEW))
assert is_right(cv2.dnn.ENGINE_NEW) and not is_right(cv2.dnn.ENGINE_CLASSIC)
# The variable in place of the argument: the new engine is asked for, and gives the old numbers.
print('with OPENCV_FORCE_DNN_ENGINE=1')
forced = dict(os.environ, OPENCV_FORCE_DNN_ENGINE=str(cv2.dnn.ENGINE_CLASSIC))
assert subprocess.run([sys.executable, __file__], env=forced).returncode == 0
PY
env/bin/python finding.py
