#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# onnxruntime quantises old files to files that it cannot open
#
# Versions:  onnxruntime 1.32.0, onnx 1.23.2
# Expected:  quantize_static writes files that onnxruntime runs, or refuses the model.
# Seen:      With per_channel=True, a model of opset 11 or 12 is written without an error, and
#            opening it fails: DequantizeLinear has an axis only from opset 13 on.
# Matters:   Published face detectors have opset 9 to 11, and depthwise convolutions need weights
#            quantised per channel. Convert to opset 13 first.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 sympy==1.14.0 numpy==2.2.6 || exit 2
env/bin/python - << 'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

rng = np.random.default_rng(0)


class Images(CalibrationDataReader):
    def __init__(self):
        self.left = [{'x': rng.normal(size=(1, 3, 16, 16)).astype(np.float32)} for _ in range(4)]

    def get_next(self):
        return self.left.pop() if self.left else None


def write(opset):
    weight = rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node('Conv', ['x', 'weight'], ['y'], pads=[1, 1, 1, 1])],
        'conv',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, 4, 16, 16])],
        [numpy_helper.from_array(weight, 'weight')],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=6)
    onnx.checker.check_model(model)
    onnx.save(model, 'float.onnx')


def opens(opset, per_channel):
    write(opset)
    quantize_static(
        'float.onnx', 'int8.onnx', Images(), QuantFormat.QDQ, per_channel=per_channel
    )
    try:
        onnxruntime.InferenceSession('int8.onnx')
    except Exception as error:
        print(f'opset {opset}, per_channel={per_channel}:', str(error)[:150])
        return False
    print(f'opset {opset}, per_channel={per_channel}: opens')
    return True


assert opens(11, False) and opens(13, False) and opens(13, True)
assert not opens(11, True) and not opens(12, True)
PY
