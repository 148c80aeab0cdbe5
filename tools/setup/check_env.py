# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Check that the environment works: OpenCV, torch, mmdet and mmcv's operators on the device."""

from __future__ import annotations

import argparse
import hashlib
import sys
import warnings
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO))  # build_mmcv.sh runs this before mmface is installed

from mmface.utils import environment  # noqa: E402


def setup_key(device: str) -> str:
    """Return a hash of everything that the work of build_mmcv.sh depends on."""
    digest = hashlib.sha256(f'{REPO} {sys.prefix} {sys.version} {device}'.encode())
    digest.update(repr(sorted(environment.installed().items())).encode())
    sources = [REPO / 'build_mmcv.sh', REPO / 'pyproject.toml', *(REPO / 'tools/setup').iterdir()]
    sources += [REPO / 'setup.py', REPO / 'mmface/utils/environment.py']
    for path in sorted(p for p in sources if p.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Example:\n  python tools/setup/check_env.py --device cpu',
    )
    parser.add_argument('--device', default='cpu', choices=environment.DEVICES)
    parser.add_argument('--only-opencv', action='store_true', help='check only OpenCV')
    parser.add_argument('--only-torch', action='store_true', help='check torch and the device')
    parser.add_argument('--only-ops', action='store_true', help='do not check mmdet')
    parser.add_argument('--key', action='store_true', help='print the key of this set-up and exit')
    parser.add_argument(
        '--installed',
        metavar='NAME',
        choices=environment.DISTRIBUTIONS,
        help='print "distribution version", one line for each that provides NAME, and exit',
    )
    args = parser.parse_args()
    if args.key:
        print(setup_key(args.device))
        return 0
    if args.installed:
        print('\n'.join(environment.distributions(args.installed)))
        return 0
    warnings.simplefilter('ignore')
    try:
        if not args.only_torch:
            environment.check_opencv()
        if args.only_opencv:
            return 0
        environment.check_torch(args.device)
        if args.only_torch:
            return 0
        environment.check_ops(args.device)
        if args.only_ops:
            return 0
        environment.check_mmdet()
    except RuntimeError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print('\n'.join(environment.version_rows()))
    print(environment.row('mmcv.ops', f'nms runs on {args.device}'))
    return 0


if __name__ == '__main__':
    sys.exit(main())
