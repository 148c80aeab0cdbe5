# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""mmface: face detection on mmdetection 3.x for Ascend NPU, CUDA and CPU."""

__version__ = '0.1.0'
