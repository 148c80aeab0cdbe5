#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# OpenCV 4 adds the bias of a folded norm again when the input size changes
#
# Versions:  opencv-python-headless 4.14.0.94, onnxruntime 1.32.0, onnx 1.23.2
# Expected:  One network of cv2.dnn serves images of all sizes.
# Seen:      A batch norm behind a ConvTranspose is folded into it. At every change of the input
#            size its shift is added once more: outputs are off by 0, 1, 3 and 7 at the sizes 8, 10,
#            12 and 14. With enableFusion(False) they are right. So in 4.12 and in the classic
#            engine of 5.0.
# Matters:   CenterFace has three such norms. After a few changes of size it finds hundreds of faces
#            in noise. Folders of photos have many sizes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check opencv-python-headless==4.14.0.94 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.2.6 || exit 2
env/bin/python - << 'PY'
import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
weights = {
    'weight': rng.normal(0, 0.3, (3, 4, 2, 2)),
    'scale': [1.5, 0.7, 2, 1.2],
    'bias': [0.1, -0.2, 0.3, 0],
    'mean': [0.2, 0.1, -0.1, 0],
    'var': [0.5, 2, 1, 0.3],
}
graph = helper.make_graph(
    [
        helper.make_node('ConvTranspose', ['x', 'weight'], ['up'], strides=[2, 2], kernel_shape=[2, 2]),
        helper.make_node('BatchNormalization', ['up', 'scale', 'bias', 'mean', 'var'], ['y']),
    ],
    'neck',
    [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 3, 'h', 'w'])],
    [helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, 4, 'H', 'W'])],
    [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in weights.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 11)], ir_version=6)
onnx.checker.check_model(model)
onnx.save(model, 'neck.onnx')
session = onnxruntime.InferenceSession('neck.onnx')


def differences(network):
    found = []
    for side in (8, 10, 12, 14):
        x = rng.normal(size=(1, 3, side, side)).astype(np.float32)
        network.setInput(x)
        found.append(float(np.abs(network.forward() - session.run(None, {'x': x})[0]).max()))
    return found


one = cv2.dnn.readNetFromONNX('neck.onnx')
plain = cv2.dnn.readNetFromONNX('neck.onnx')
plain.enableFusion(False)
one, plain = differences(one), differences(plain)
print('sizes in turn, difference from onnxruntime', np.round(one, 3))
print('with enableFusion(False)', np.round(plain, 6))
assert one[0] < 1e-4 and min(one[1:]) > 0.1
assert max(plain) < 1e-4
PY
