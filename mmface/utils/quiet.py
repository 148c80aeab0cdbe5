# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Use the framework and OpenCV without their unneeded messages."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import warnings

# Warnings about settings of our configs for accelerators and DDP. Harmless elsewhere.
HARMLESS = (
    r".*'pin_memory' argument is set as true but no accelerator is found",
    r'`broadcast_buffers` is deprecated',
)
NOISY = ('mmdet.models', 'mmdet.datasets', 'mmdet.evaluation', 'mmdet.visualization')


def import_mmdet_quietly() -> None:
    """Import mmdet's packages without messages about missing optional packages.

    At its first import, mmdet prints and warns about packages that face detection does not
    need. Two warnings about harmless settings are ignored from then on. Errors are still raised.
    """
    for message in HARMLESS:
        warnings.filterwarnings('ignore', message)
    collects = gc.isenabled()
    # Objects made by the modules stay: collecting garbage among them takes a fifth of the time.
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
    """Stop OpenCV from printing messages about files that it cannot read."""
    import cv2

    # OpenCV 5 has it in a module that OpenCV 4 does not have.
    logging = cv2 if hasattr(cv2, 'setLogLevel') else getattr(cv2.utils, 'logging')  # noqa: B009
    logging.setLogLevel(0)
