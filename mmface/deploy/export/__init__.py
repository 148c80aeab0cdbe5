# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Trained detectors to ONNX files, whose layouts are those of ``mmface.deploy.layouts``."""
