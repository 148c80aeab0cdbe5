# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""mmface: face detection on mmdetection 3.x for Ascend NPU, CUDA and CPU."""

from mmface.utils.config_files import config_path

__all__ = ['__version__', 'config_path', 'register_all_modules']

__version__ = '0.4.0'


def register_all_modules() -> None:
    """Register all detectors, data sets, metrics and hooks with mmdet's registries.

    This is the same as importing ``mmface.registry``, which configs name in ``custom_imports``.

    Raises:
        ModuleNotFoundError: torch or one of the mm packages is missing.
    """
    import mmface.registry
