# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Report what is installed and what works: versions, OpenCV, torch, devices, mmcv operators.

Needs only the standard library, so that the set-up script can use it before anything is
installed.
"""

from __future__ import annotations

import contextlib
import io
import platform
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from mmface.utils.extras import opencv_remedy

#: Displayed name, and the distributions that may provide the package.
DISTRIBUTIONS = {
    'torch': ['torch'],
    'torch_npu': ['torch-npu'],
    'mmengine': ['onedl-mmengine', 'mmengine'],
    'mmcv': ['onedl-mmcv', 'mmcv', 'mmcv-lite'],
    'mmdet': ['onedl-mmdetection', 'mmdet'],
    'mmface': ['mmface'],
    'numpy': ['numpy'],
    'opencv': [
        'opencv-python',
        'opencv-python-headless',
        'opencv-contrib-python',
        'opencv-contrib-python-headless',
    ],
    'onnx': ['onnx'],
    'onnxruntime': ['onnxruntime', 'onnxruntime-gpu'],
}
DEVICES = ('cpu', 'cuda', 'npu')


def distributions(name: str) -> list[str]:
    """List the installed distributions that provide ``name``, each with its version."""
    found = []
    for distribution in DISTRIBUTIONS[name]:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f'{distribution} {version(distribution)}')
    return found


def installed() -> dict[str, str]:
    """Map each installed package to its distribution and version, without imports."""
    return {name: ' and '.join(found) for name in DISTRIBUTIONS if (found := distributions(name))}


def check_opencv() -> None:
    """Import OpenCV. Its wheel needs shared libraries of the system.

    Raises:
        RuntimeError: OpenCV cannot be imported (the message names the Debian packages), or two
            distributions have written the same files.
    """
    try:
        import_module('cv2')
    except ImportError as error:
        raise RuntimeError(opencv_remedy(error)) from None
    found = distributions('opencv')
    if len(found) > 1:
        raise RuntimeError(
            f'{" and ".join(found)} are installed and overwrite each other: uninstall all of them '
            'and run bash build_mmcv.sh'
        )


def check_torch(device: str) -> None:
    """Import torch and check that the device is available.

    Raises:
        RuntimeError: torch cannot be imported or does not find the device.
    """
    try:
        torch = import_module('torch')
        if device == 'npu':
            import_module('torch_npu')
    except Exception as error:  # torch_npu's autoload raises many types if CANN is missing
        remedy = (
            'source the set_env.sh of the CANN version that fits torch_npu'
            if device == 'npu'
            else 'install torch 2.13.0 again, or uninstall torch_npu on a machine without NPU'
        )
        raise RuntimeError(f'torch does not load ({error.__cause__ or error}): {remedy}') from None
    if device != 'cpu' and not getattr(torch, device).is_available():
        raise RuntimeError(
            f'torch {torch.__version__} sees no {device} device: install the driver and a torch '
            "built for it, or use the device 'cpu'"
        )


def check_ops(device: str) -> None:
    """Run mmcv's NMS on the device and compare it with the known answer.

    Raises:
        RuntimeError: The operators cannot be loaded or return a wrong answer.
    """
    torch = import_module('torch')
    try:
        ops = import_module('mmcv.ops')
        boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30]], device=device)
        scores = torch.tensor([0.5, 0.9, 0.7], device=device)
        kept = ops.nms(boxes, scores, 0.5)[1].tolist()
    except Exception as error:
        raise RuntimeError(
            f"mmcv's operators do not load or do not run on {device} ({error}): "
            'uninstall mmcv, or remove the environment, and run bash build_mmcv.sh again'
        ) from None
    if kept != [1, 2]:
        raise RuntimeError(f'mmcv.ops.nms on {device} kept boxes {kept}, expected [1, 2]')


def check_mmdet() -> None:
    """Import mmdet, which checks the versions of mmcv and mmengine itself.

    Raises:
        RuntimeError: mmdet cannot be imported.
    """
    noise = io.StringIO()  # mmdet prints messages about optional packages
    try:
        with contextlib.redirect_stdout(noise):
            import_module('mmdet.registry')
    except Exception as error:
        raise RuntimeError(f'mmdet does not load ({error}): run bash build_mmcv.sh') from None


def torch_devices() -> dict[str, str]:
    """Map each device that torch finds to its description.

    Raises:
        RuntimeError: torch cannot be imported.
    """
    check_torch('cpu')
    torch = import_module('torch')
    found = {'cpu': f'{torch.get_num_threads()} threads'}
    for kind in ('cuda', 'npu'):
        backend = getattr(torch, kind, None)  # torch.npu exists after torch_npu is loaded
        if backend is not None and backend.is_available():
            for number in range(backend.device_count()):
                found[f'{kind}:{number}'] = backend.get_device_name(number)
    return found


def row(name: str, text: str) -> str:
    """Return a line of a table."""
    return f'{name:12} {text}'


def version_rows() -> list[str]:
    """List Python and the installed packages, one line each."""
    rows = [row('python', f'{platform.python_version()} at {sys.prefix}')]
    return rows + [row(name, text) for name, text in installed().items()]


def state_of(check: Callable[[], None], good: str) -> str:
    """Return ``good`` if ``check`` passes, or else the reason of the failure."""
    try:
        check()
    except RuntimeError as error:
        return f'does not work: {error}'
    return good
