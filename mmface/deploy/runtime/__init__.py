# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Detect faces with an ONNX file. Needs numpy, OpenCV and onnxruntime, but not torch."""

from mmface.deploy.runtime.decode import decode
from mmface.deploy.runtime.detections import Detections, to_faces
from mmface.deploy.runtime.face_detector import FaceDetector
from mmface.deploy.runtime.letterbox import Placement, place, to_blob

__all__ = ['Detections', 'FaceDetector', 'Placement', 'decode', 'place', 'to_blob', 'to_faces']
