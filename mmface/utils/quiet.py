# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Use the framework and OpenCV without their unneeded messages and imports."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import sys
import warnings
from collections.abc import Iterator

from mmface.utils.deferred_imports import deferred_imports

# Warnings about settings of our configs for accelerators and DDP. Harmless elsewhere.
HARMLESS = (
    r".*'pin_memory' argument is set as true but no accelerator is found",
    r'`broadcast_buffers` is deprecated',
)
NOISY = ('mmdet.models', 'mmdet.datasets', 'mmdet.evaluation', 'mmdet.visualization')
#: What mmdet imports for lanes, tracking, plots and corrupted images: half of the time.
SELDOM_USED = (
    'faster_coco_eval',
    'imagecorruptions',
    'imgaug',
    'matplotlib',
    'scipy',
    'shapely',
    'skimage',
    'terminaltables',
    'tifffile',
)
#: Packages that get stand-ins for them. Others, such as those of the user, get the real objects.
IMPORTERS = ('mmdet', 'mmcv', 'mmengine', 'pycocotools')


def import_mmdet_quietly() -> None:
    """Import mmdet without messages about missing optional packages, and register mmface.

    At its first import, mmdet prints and warns about packages that face detection does not
    need. Two warnings about harmless settings are ignored from then on. Errors are still raised.
    Packages that only a few parts of mmdet need are imported when such a part is used.
    """
    for message in HARMLESS:
        warnings.filterwarnings('ignore', message)
    if 'mmface.registry' in sys.modules:
        return  # the garbage of the caller must not be frozen for nothing
    with _no_garbage_collection():
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
            deferred_imports(*SELDOM_USED, importers=IMPORTERS),
        ):
            warnings.simplefilter('ignore')
            for name in NOISY:
                importlib.import_module(name)
        importlib.import_module('mmface.registry')


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Import modules in this block without looking for garbage among their objects.

    They stay until the end of the process. Looking at them takes a fifth of the time of the import,
    and later collections, also in the workers, do not need to look at them either.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def quiet_opencv() -> None:
    """Stop OpenCV from printing messages about files that it cannot read."""
    import cv2

    # OpenCV 5 has it in a module that OpenCV 4 does not have.
    logging = cv2 if hasattr(cv2, 'setLogLevel') else getattr(cv2.utils, 'logging')  # noqa: B009
    logging.setLogLevel(0)
