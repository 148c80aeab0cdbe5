# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Check that mmcv's NPU operators compile with the headers of torch_npu. Needs no NPU and no CANN.

The compiler reads those of mmcv's NPU sources that mmface's detectors need. It only checks syntax
and types: nothing is linked or run. The headers come from the wheel of torch_npu, which is only
unpacked, because torch_npu installed without CANN would break `import torch`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

SOURCES = ('nms_npu.cpp', 'roi_align_npu.cpp', 'focal_loss_npu.cpp')
# The wheels for all Pythons hold the same headers. This one exists for both kinds of machine.
WHEEL_OPTIONS = [
    *('--only-binary', ':all:', '--python-version', '3.11'),
    *('--platform', f'manylinux_2_28_{os.uname().machine}'),
]
# mmcv's setup.py imports torch and pkg_resources even to print its name.
SDIST_OPTIONS = ['--no-binary', ':all:', '--no-build-isolation']


def fetch(wanted: str, options: list[str], pattern: str, cache: Path) -> Path:
    """Return the file of a distribution, from the cache or else from pip's index.

    Args:
        wanted: ``name==version``, or the path of an existing file.
        options: Options with which pip selects the right file.
        pattern: End of the file's name.
        cache: Folder for downloads.

    Raises:
        RuntimeError: The file does not exist, or pip cannot download it.
    """
    if '==' not in wanted:
        if not Path(wanted).is_file():
            raise RuntimeError(f'no file {wanted}: name a file, or NAME==VERSION to download')
        return Path(wanted)
    name, number = wanted.split('==')
    stem = f'{name.replace("-", "_")}-{number}'
    if not (found := sorted(cache.glob(stem + pattern))):
        command = [sys.executable, '-m', 'pip', 'download', '--disable-pip-version-check']
        command += ['--no-deps', *options, '--dest', str(cache), wanted]
        done = subprocess.run(command, capture_output=True, text=True)
        found = sorted(cache.glob(stem + pattern))
        if done.returncode or not found:
            said = [line for line in done.stderr.splitlines() if 'error' in line.lower()]
            raise RuntimeError(
                f'cannot download {wanted} ({said[-1] if said else "pip gave no reason"}): check '
                f"the network and pip's index, or put the file into {cache}"
            )
    return found[0]


def unpack(wheel: Path, sdist: Path, place: Path) -> tuple[Path, Path]:
    """Unpack the archives. Return the folders of torch_npu and of mmcv's source.

    Raises:
        RuntimeError: The archives do not have the expected content.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.startswith('torch_npu/include/')]
            archive.extractall(place, names)
        with tarfile.open(sdist) as archive:
            # Python before 3.11.4 has no filters.
            safe: dict[str, Any] = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}
            archive.extractall(place / 'mmcv', **safe)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise RuntimeError(f'a download is damaged ({error}): remove {wheel} and {sdist}') from None
    if not names:
        raise RuntimeError(f'{wheel} has no headers: is it a wheel of torch_npu?')
    roots = [path.parent for path in (place / 'mmcv').glob('*/setup.py')]
    if len(roots) != 1:
        raise RuntimeError(f'{sdist} has no setup.py: is it a source distribution of mmcv?')
    return place / 'torch_npu', roots[0]


def compiler_flags(torch_npu: Path, root: Path) -> list[str]:
    """Return the compiler flags of mmcv's setup.py and torch_npu's NpuExtension."""
    from torch.utils.cpp_extension import include_paths

    headers = torch_npu / 'include'
    csrc = root / 'mmcv' / 'ops' / 'csrc'
    folders = [csrc / 'common', csrc / 'common' / 'npu', headers]
    folders.append(headers / 'third_party' / 'hccl' / 'inc')
    if 'third_party/acl/inc' in (root / 'setup.py').read_text():
        folders.append(headers / 'third_party' / 'acl' / 'inc')
    defines = ['MMCV_WITH_NPU', 'MMCV_WITH_KPRIVATE', 'TORCH_EXTENSION_NAME=_ext']
    return [
        *('-fsyntax-only', '-std=c++17', '-w', '-D__FILENAME__="_"'),
        *(f'-D{name}' for name in defines),
        *(f'-I{path}' for path in [*folders, *include_paths(), sysconfig.get_paths()['include']]),
    ]


def check(compiler: list[str], flags: list[str], root: Path, name: str) -> str:
    """Let the compiler check one source. Return '' or its first error."""
    path = root / 'mmcv' / 'ops' / 'csrc' / 'pytorch' / 'npu' / name
    if not path.is_file():
        return 'not in this mmcv'
    done = subprocess.run(
        [*compiler, *flags, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, 'LC_ALL': 'C'},
    )
    if done.returncode == 0:
        return ''
    said = done.stderr.splitlines()
    first = next((line for line in said if 'error:' in line), said[-1] if said else 'no message')
    return first.replace(f'{path.parent}/', '').replace(f'{root}/', '')


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Exit status: 0 if all sources compile, 1 if not, 2 if the check failed.\n\n'
        'Example:\n  python tools/setup/check_npu_sources.py --mmcv onedl-mmcv==2.3.6',
    )
    what = 'NAME==VERSION to download, or the path of a file (default: %(default)s)'
    parser.add_argument('--mmcv', default='onedl-mmcv==2.3.6', help=f'source distribution: {what}')
    parser.add_argument('--torch-npu', default='torch-npu==2.13.0', help=f'wheel: {what}')
    parser.add_argument('--cache', type=Path, default=Path.cwd(), help='folder for downloads')
    args = parser.parse_args()
    compiler = shlex.split(os.environ.get('CXX', 'g++'))
    try:
        if shutil.which(compiler[0]) is None:
            raise RuntimeError(
                f'no C++ compiler ({compiler[0]}) found: install one, on Debian and Ubuntu with: '
                'sudo apt-get install g++'
            )
        wheel = fetch(args.torch_npu, WHEEL_OPTIONS, '-*.whl', args.cache)
        sdist = fetch(args.mmcv, SDIST_OPTIONS, '.tar.gz', args.cache)
        with tempfile.TemporaryDirectory(prefix='mmface-npu-') as place:
            torch_npu, root = unpack(wheel, sdist, Path(place))
            flags = compiler_flags(torch_npu, root)
            print(f'{sdist.name} with the headers of {wheel.name} and torch {version("torch")}')
            faults = 0
            for name in SOURCES:
                complaint = check(compiler, flags, root, name)
                faults += bool(complaint)
                print(f'{name:20} {f"FAILS  {complaint}" if complaint else "ok"}', flush=True)
    except RuntimeError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
