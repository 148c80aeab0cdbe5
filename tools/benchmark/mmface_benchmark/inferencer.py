# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Time FaceInferencer with one image against the same network in onnxruntime."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import onnxruntime
import torch

from mmface.apis.inferencer import FaceInferencer
from mmface.utils.images import read_image
from mmface_benchmark.timing import Comparison, compare

WHOLE, TORCH, ONNX = 'FaceInferencer', 'its network alone', 'the network in onnxruntime'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``benchmark.py inferencer``."""
    add = parser.add_argument
    add('config', help='config of a network that takes images of one size')
    add('weights', help='its checkpoint')
    add('onnx', type=Path, help='the exported network')
    add('image', type=Path, help='an image')
    add('--threads', type=int, default=1, help='threads of each (%(default)s)')


def run(args: argparse.Namespace) -> list[Comparison]:
    """Time the whole call, and both forms of the network on a batch of one image."""
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    # Threads that wait actively would count as processor time.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    session = onnxruntime.InferenceSession(args.onnx, options, providers=['CPUExecutionProvider'])
    detector = FaceInferencer(args.config, args.weights, device='cpu')
    preprocessor = detector.model.data_preprocessor
    image = read_image(args.image)
    blob = torch.randn(1, 3, *(preprocessor.pad_size or (640, 640)))
    feed = {session.get_inputs()[0].name: blob.numpy()}

    def network() -> None:
        with torch.inference_mode():
            detector.model(blob, mode='tensor')

    ways = {
        WHOLE: lambda: detector(image),
        TORCH: network,
        ONNX: lambda: session.run(None, feed),
    }
    task = f'{Path(args.config).stem}, one image, {args.threads} threads'
    found = compare(task, ways, args.rounds, clock=time.process_time)
    return [found]
