# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Visualization of detections; importing this package registers the visualizer with mmdet."""

from mmface.visualization.face_visualizer import FaceVisualizer

__all__ = ['FaceVisualizer']
