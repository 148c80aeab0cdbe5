# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Check that the environment works: OpenCV, torch, mmdet and mmcv's operators on the device."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import platform
import sys
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
# Name shown and the distributions that may provide it.
DISTRIBUTIONS = {
    'torch': ['torch'],
    'torch_npu': ['torch-npu'],
    'mmengine': ['onedl-mmengine', 'mmengine'],
    'mmcv': ['onedl-mmcv', 'mmcv', 'mmcv-lite'],
    'mmdet': ['onedl-mmdetection', 'mmdet'],
    'mmface': ['mmface'],
    'numpy': ['numpy'],
    'opencv': ['opencv-python', 'opencv-python-headless'],
    'onnxruntime': ['onnxruntime'],
}


def installed() -> dict[str, str]:
    """Map each package that is there to its distribution and version; imports nothing."""
    found = {}
    for name, distributions in DISTRIBUTIONS.items():
        for distribution in distributions:
            with contextlib.suppress(PackageNotFoundError):
                found[name] = f'{distribution} {version(distribution)}'
                break
    return found


def setup_key(device: str) -> str:
    """Hash of everything on which the work of build_mmcv.sh depends."""
    digest = hashlib.sha256(f'{REPO} {sys.prefix} {sys.version} {device}'.encode())
    digest.update(repr(sorted(installed().items())).encode())
    sources = [REPO / 'build_mmcv.sh', REPO / 'pyproject.toml', *(REPO / 'tools/setup').iterdir()]
    for path in sorted(p for p in sources if p.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def check_opencv() -> None:
    """Import OpenCV; its wheel needs shared libraries of the system.

    Raises:
        RuntimeError: It cannot be imported; the text names the Debian packages.
    """
    try:
        import_module('cv2')
    except ImportError as error:
        if '.so' in str(error):
            raise RuntimeError(
                f'OpenCV does not load ({error}): install its system libraries, on Debian and '
                'Ubuntu with: sudo apt-get install libgl1 libglib2.0-0'
            ) from None
        raise RuntimeError(f'OpenCV does not load ({error}): run bash build_mmcv.sh') from None


def check_torch(device: str) -> None:
    """Import torch and, for another device than the CPU, see that it is there.

    Raises:
        RuntimeError: torch does not load or does not see the device.
    """
    try:
        torch = import_module('torch')
        if device == 'npu':
            import_module('torch_npu')
    except Exception as error:  # torch_npu's autoload raises all kinds when CANN is missing
        remedy = (
            'source the set_env.sh of the CANN that fits torch_npu'
            if device == 'npu'
            else 'install torch 2.13.0 again, or uninstall torch_npu on a machine without NPU'
        )
        raise RuntimeError(f'torch does not load ({error.__cause__ or error}): {remedy}') from None
    if device != 'cpu' and not getattr(torch, device).is_available():
        raise RuntimeError(
            f'torch {torch.__version__} sees no {device} device: install the driver and a torch '
            'built for it, or use --device cpu'
        )


def check_ops(device: str) -> None:
    """Run mmcv's NMS, whose right answer is known, on the device.

    Raises:
        RuntimeError: The operators do not load or give a wrong answer.
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
        raise RuntimeError(f'mmcv.ops.nms on {device} kept boxes {kept} where [1, 2] are right')


def check_mmdet() -> None:
    """Import mmdet, which checks the versions of mmcv and mmengine itself.

    Raises:
        RuntimeError: It cannot be imported.
    """
    noise = io.StringIO()  # it prints about optional packages
    try:
        with contextlib.redirect_stdout(noise):
            import_module('mmdet.registry')
    except Exception as error:
        raise RuntimeError(f'mmdet does not load ({error}): run bash build_mmcv.sh') from None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Example:\n  python tools/setup/check_env.py --device cpu',
    )
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda', 'npu'])
    parser.add_argument('--only-opencv', action='store_true', help='check nothing but OpenCV')
    parser.add_argument('--only-torch', action='store_true', help='check torch and the device')
    parser.add_argument('--only-ops', action='store_true', help='check no mmdet')
    parser.add_argument('--key', action='store_true', help='print the key of this set-up and end')
    parser.add_argument('--installed', metavar='NAME', help='print "distribution version" and end')
    args = parser.parse_args()
    if args.key:
        print(setup_key(args.device))
        return 0
    if args.installed:
        print(installed().get(args.installed, ''))
        return 0
    warnings.simplefilter('ignore')
    try:
        if not args.only_torch:
            check_opencv()
        if args.only_opencv:
            return 0
        check_torch(args.device)
        if args.only_torch:
            return 0
        check_ops(args.device)
        if args.only_ops:
            return 0
        check_mmdet()
    except RuntimeError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{"python":12} {platform.python_version()} at {sys.prefix}')
    for name, text in installed().items():
        print(f'{name:12} {text}')
    print(f'{"mmcv.ops":12} nms runs on {args.device}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
