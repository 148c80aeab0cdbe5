# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Packages that only some parts of mmface need, and how to install them. Imports none of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

#: Import names, and the extra of pyproject.toml that installs each.
EXTRAS = {
    'onnx': 'cpu',
    'onnxruntime': 'cpu',
    'matplotlib': 'eval',
    'av': 'video',
    'pillow_heif': 'heif',
    'pyarrow': 'bulk',
    'pycocotools': 'eval',
    'ray': 'ray',
    'scipy': 'eval',
    'tensorboard': 'log',
    'wandb': 'log',
}
#: Packages that pip alone cannot install correctly: mmcv needs its compiled operators.
SET_UP = ('torch', 'mmcv', 'mmengine', 'mmdet')


def missing_package(error: ImportError) -> str | None:
    """Return one sentence that names the missing package and how to install it.

    Args:
        error: The exception of an import.

    Returns:
        The sentence, or ``None`` if the package is not optional.
    """
    name = (error.name or '').partition('.')[0]
    if name == 'cv2':
        return opencv_remedy(error)
    if name in SET_UP:
        return (
            f'{error}; run `bash build_mmcv.sh` in a checkout of mmface, which installs torch and '
            'the mm packages'
        )
    if name in EXTRAS:
        return f'this needs the package {name}: pip install "mmface[{EXTRAS[name]}]"'
    return None


def opencv_remedy(error: ImportError) -> str:
    """Return one sentence about an OpenCV that cannot be imported."""
    remedy = 'pip install opencv-python'
    if '.so' in str(error):  # the wheel needs shared libraries of the system
        remedy = (
            'install its system libraries, on Debian and Ubuntu with: '
            'sudo apt-get install libgl1 libglib2.0-0'
        )
    return f'OpenCV does not load ({error}): {remedy}'


@contextmanager
def optional_imports() -> Iterator[None]:
    """Extend the error of a failed import in this block with the extra that has the package.

    Raises:
        ModuleNotFoundError: The package is missing. The message contains the pip command.

    Example:
        >>> with optional_imports():
        ...     import onnxruntime
    """
    try:
        yield
    except ModuleNotFoundError as error:
        text = missing_package(error)
        if text is None:
            raise
        raise ModuleNotFoundError(text, name=error.name) from None
