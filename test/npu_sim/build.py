# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Compile the simulated NPU once and print where the library is.

    python test/npu_sim/build.py          # prints the path of the library
    python test/npu_sim/build.py --env    # prints export lines for a shell, to be given to eval

The library is kept in ``${MMFACE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/mmface}/npu_sim/<hash>/``,
the hash being that of the sources, torch's version and Python's. Of several processes that want to
build, one does and the others wait; the file appears whole or not at all.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = 'npusim'
FLAGS = ['-O1', '-g0']  # compiling quickly matters, running does not: the CPU's kernels do the work
NO_COMPILER = 3  # exit status


def library() -> Path:
    """Return the path of the library, whether it is compiled yet or not."""
    content = hashlib.sha256()
    for path in [*sorted((HERE / 'csrc').iterdir()), Path(__file__)]:
        content.update(path.name.encode() + path.read_bytes())
    content.update(f'{version("torch")} {sys.version} {platform.machine()}'.encode())
    cache = os.environ.get('MMFACE_CACHE')
    if not cache:
        cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmface'
    return Path(cache) / 'npu_sim' / content.hexdigest()[:16] / f'{NAME}.so'


def find_or_build() -> Path:
    """Return the library; compile it if it does not exist.

    Raises:
        FileNotFoundError: There is no C++ compiler.
    """
    path = library()
    if path.is_file():
        return path
    compiler = os.environ.get('CXX', 'c++')
    if shutil.which(compiler) is None:
        raise FileNotFoundError(f"no C++ compiler ('{compiler}'; another one: set CXX)")
    from torch.utils import cpp_extension

    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            with tempfile.TemporaryDirectory(dir=path.parent, prefix='build_') as folder:
                cpp_extension.load(
                    NAME,
                    [str(HERE / 'csrc' / 'all.cpp')],
                    build_directory=folder,
                    extra_cflags=FLAGS,
                )
                (Path(folder) / f'{NAME}.so').replace(path)
    return path


def environment() -> dict[str, str]:
    """Return the variables with which a Python process finds the device; build it if necessary."""
    paths = [str(HERE / 'stub'), *filter(None, [os.environ.get('PYTHONPATH')])]
    return {'PYTHONPATH': os.pathsep.join(paths), 'NPUSIM_SO': str(find_or_build())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--env', action='store_true', help='print export lines for a shell')
    args = parser.parse_args()
    try:
        if args.env:
            for name, value in environment().items():
                print(f"export {name}='{value}'")
        else:
            print(find_or_build())
    except FileNotFoundError as error:
        sys.stderr.write(f'error: {error}\n')
        sys.exit(NO_COMPILER)


if __name__ == '__main__':
    main()
