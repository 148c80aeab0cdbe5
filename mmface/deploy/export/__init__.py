# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Export trained detectors to ONNX files with the layouts of ``mmface.deploy.layouts``."""
