#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# insightface runs SCRFD at two sizes unless one is given
#
# Versions:  insightface 2.1, onnxruntime 1.32.0, onnx 1.23.2
# Expected:  detect(image) without input_size runs the network once, at 640x640.
# Seen:      It runs at 128x128 and at 640x640 and joins the boxes by NMS.
# Matters:   Large faces get other boxes and scores than in every published number. Give
#            input_size=(640, 640) to compare detectors.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check insightface==2.1 onnxruntime==1.32.0 onnx==1.23.2 opencv-python==5.0.0.93 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
import numpy as np
import onnx
import onnxruntime
from insightface.model_zoo import get_model
from onnx import TensorProto, helper, numpy_helper

# The ports of SCRFD: scores, boxes and keypoints of three strides, two priors a cell.
rng = np.random.default_rng(0)
nodes, weights, outputs = [], [numpy_helper.from_array(np.int64([0, -1]), 'rows')], []
for kind, channels in (('score', 1), ('bbox', 4), ('kps', 10)):
    for stride in (8, 16, 32):
        name = f'{kind}_{stride}'
        kernel = rng.normal(0, 0.02, (2 * channels, 3, stride, stride)).astype(np.float32)
        weights += [
            numpy_helper.from_array(kernel, f'{name}.weight'),
            numpy_helper.from_array(np.int64([-1, channels]), f'{name}.shape'),
        ]
        nodes += [
            helper.make_node('Conv', ['x', f'{name}.weight'], [f'{name}.map'], strides=[stride] * 2),
            helper.make_node('Transpose', [f'{name}.map'], [f'{name}.last'], perm=[0, 2, 3, 1]),
            helper.make_node('Reshape', [f'{name}.last', f'{name}.shape'], [f'{name}.flat']),
            helper.make_node('Sigmoid' if kind == 'score' else 'Relu', [f'{name}.flat'], [name]),
        ]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ['n', channels]))
graph = helper.make_graph(
    nodes,
    'scrfd',
    [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 3, 'h', 'w'])],
    outputs,
    weights[1:],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 11)], ir_version=6)
onnx.checker.check_model(model)
onnx.save(model, 'scrfd.onnx')

sizes = []
run = onnxruntime.InferenceSession.run


def counted(self, names, feed, *args):
    sizes.append(next(iter(feed.values())).shape[2:])
    return run(self, names, feed, *args)


onnxruntime.InferenceSession.run = counted
detector = get_model('scrfd.onnx', providers=['CPUExecutionProvider'])
print(type(detector).__name__)
detector.prepare(ctx_id=-1)
image = rng.integers(0, 256, (480, 640, 3), np.uint8)
detector.detect(image)
print('by default the network runs at', sizes)
assert sorted(sizes) == [(128, 128), (640, 640)], sizes
sizes.clear()
detector.detect(image, input_size=(640, 640))
print('with input_size at', sizes)
assert sizes == [(640, 640)]
PY
