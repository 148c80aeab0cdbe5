#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# The reference evaluator of onnx mixes batch statistics into old networks
#
# Versions:  onnx 1.23.2, onnxruntime 1.32.0
# Expected:  onnx.reference is an oracle: it computes a BatchNormalization of opset 9 to 13 from
#            its stored mean and variance, as onnxruntime does.
# Seen:      If the node has the attribute momentum, as every node that PyTorch exports, 10 % of
#            the mean and variance come from the batch at hand. The result of an image depends on
#            the others in its batch. From opset 14 on both agree.
# Matters:   Published face detectors are old files (CenterFace has opset 9). Compared with this
#            reference, a correct runtime looks wrong by several percent.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

names = ('scale', 'bias', 'mean', 'var')
values = np.array([[1, 2], [0, 0.5], [0.1, -0.2], [0.5, 0.1]], np.float32)
x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(1, 2, 3, 4)


def outputs(opset):
    node = helper.make_node('BatchNormalization', ['x', *names], ['y'], epsilon=1e-3, momentum=0.9)
    graph = helper.make_graph(
        [node],
        'norm',
        [helper.make_tensor_value_info('x', 1, x.shape)],
        [helper.make_tensor_value_info('y', 1, x.shape)],
        [numpy_helper.from_array(v, n) for v, n in zip(values, names)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return ReferenceEvaluator(model).run(None, {'x': x})[0], session.run(None, {'x': x})[0]


scale, bias, mean, var = values[..., None, None]
right = scale * (x - mean) / np.sqrt(var + 1e-3) + bias
for opset in (9, 13, 14, 17):
    reference, runtime = outputs(opset)
    off = np.abs(reference - right).max()
    print(f'opset {opset}: reference is off by {off:.4f}, onnxruntime by',
          np.abs(runtime - right).max())
    assert np.allclose(runtime, right, atol=1e-5)
    assert (off > 0.05) == (opset < 14), (opset, off)
PY
