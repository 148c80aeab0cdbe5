# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Use the framework and OpenCV without their chatter."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import warnings

# What the configs do for accelerators and DDP, harmless elsewhere.
HARMLESS = (
    r".*'pin_memory' argument is set as true but no accelerator is found",
    r'`broadcast_buffers` is deprecated',
)
NOISY = ('mmdet.models', 'mmdet.datasets', 'mmdet.evaluation', 'mmdet.visualization')


def import_mmdet_quietly() -> None:
    """Import mmdet's packages without lines about optional packages that are not there.

    mmdet prints and warns, at its first import, about packages face detection has no use
    for. Two warnings about harmless settings are ignored from then on. Errors are raised as ever.
    """
    for message in HARMLESS:
        warnings.filterwarnings('ignore', message)
    collects = gc.isenabled()
    # What modules make stays: looking for garbage among it takes a fifth of the time.
    gc.disable()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            for name in NOISY:
                importlib.import_module(name)
    finally:
        if collects:
            gc.enable()


def quiet_opencv() -> None:
    """Let OpenCV print nothing about files that it cannot read."""
    import cv2

    # OpenCV 5 has it in a module that OpenCV 4 lacks.
    logging = cv2 if hasattr(cv2, 'setLogLevel') else getattr(cv2.utils, 'logging')  # noqa: B009
    logging.setLogLevel(0)
