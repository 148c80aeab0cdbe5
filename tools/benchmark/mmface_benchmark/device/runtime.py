# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What onnxruntime can use on this machine, and the time of a detection with it."""

from __future__ import annotations

import json
import subprocess
import sys

import onnxruntime

from mmface_benchmark.device.settings import CheckError, Settings
from mmface_benchmark.device.testing import ROOT, write_random_weights

_CONFIG = 'scrfd_500m_bnkps'


def run(settings: Settings) -> None:
    """Save the providers, and the milliseconds of each part of a detection."""
    providers = onnxruntime.get_available_providers()
    settings.save('version', onnxruntime.__version__)
    settings.save('providers', providers)
    settings.save('cpu_only', 'CUDAExecutionProvider' not in providers)
    weights = write_random_weights(_CONFIG, settings.work / 'runtime.pth')
    model, out = settings.work / 'runtime.onnx', settings.work / 'runtime.json'
    side = str(settings.pick(640, 96))
    _call('deploy/export_onnx.py', _CONFIG, weights, model, '--size', side, side)
    count = settings.pick((20, 5), (2, 1))
    _call(
        'benchmark/benchmark_runtime.py',
        *(model, settings.data / 'val/images', '--json', out),
        *('--limit', count[0], '--repeats', count[1]),
    )
    settings.save('milliseconds on the CPU', json.loads(out.read_text())['mmface'])


def _call(script: str, *args: object) -> None:
    command = [sys.executable, str(ROOT / 'tools' / script), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CheckError(f'{script} ended with {done.returncode}: {done.stderr[-3000:]}')
