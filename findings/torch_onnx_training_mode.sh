#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# torch.onnx.export leaves a network in training mode
#
# Versions:  torch 2.14.1 (exporter with dynamo=False), onnx 1.23.2, onnxruntime 1.32.0
# Expected:  The export leaves the mode of all modules as it was.
# Seen:      The mode of the outermost module is given to all. A network in eval mode, in a wrapper
#            on which nobody called eval, comes back in training mode: its outputs change, and each
#            call changes its statistics.
# Matters:   Detectors are exported in wrappers that add a sigmoid or a layout. A comparison of
#            network and file then fails, although the file is right.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.14.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
import contextlib
import io
import warnings

import numpy as np
import onnxruntime
import torch

warnings.simplefilter('ignore')
torch.manual_seed(0)


class Sigmoid(torch.nn.Module):
    """What an exporter puts around a detector."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).sigmoid()


x = torch.randn(1, 3, 16, 16)
for evaluated in (False, True):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    network[1].running_mean += 0.5
    right = network(x).detach()
    wrapper = Sigmoid(network)  # in training mode, as every new module; network is not
    if evaluated:
        wrapper.eval()
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(wrapper, (x,), 'face.onnx', dynamo=False)
    training = any(module.training for module in network.modules())
    moved = float((network(x).detach() - right).abs().max())
    session = onnxruntime.InferenceSession('face.onnx')
    exported = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    print(f'wrapper.eval() called: {evaluated}; afterwards the network is in training mode:',
          f'{training}, and its outputs have moved by {moved:.3f}')
    assert np.allclose(exported, right.sigmoid().numpy(), atol=1e-5)
    assert training == (moved > 0.1) == (not evaluated)
PY
