# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What all command-line tools share: one-line errors and the help layout.

A tool looks like this::

    def main() -> None:
        parser = make_parser('Count faces.', 'python tools/count.py labelv2.txt')
        parser.add_argument('label_file', type=Path)
        args = parser.parse_args()
        ...


    if __name__ == '__main__':
        main_guard(main)

This module imports neither torch nor mmengine, so ``--help`` stays quick for tools
that import those inside ``main``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

#: Set this variable to see the full traceback of an error that a tool shows in one line.
TRACEBACK_ENV = 'MMFACE_TRACEBACK'

#: Exit status of a training that was asked to stop and can go on; EX_TEMPFAIL of sysexits.h.
PREEMPTED = 75

# The package raises ValueError and FileNotFoundError for what the user gave; any other
# OSError (disk full, no permission, not a directory) is not a fault of the code either.
USER_ERRORS: tuple[type[BaseException], ...] = (ValueError, OSError)

# What the set-up script installs; mmcv._ext are its compiled operators.
SET_UP = ('torch', 'mmcv', 'mmengine', 'mmdet', 'onnx', 'onnxruntime')


def one_line(error: BaseException) -> str:
    """Give the message of ``error`` as one line.

    A data loader worker sends its traceback as the message of the exception; then the
    last line of it, without the class name in front, is the message.
    """
    text = str(error).strip()
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        text = f'{error.strerror}: {error.filename}' if error.filename else error.strerror
    if 'Traceback (most recent call last)' in text:
        text = text.splitlines()[-1]
        name, colon, rest = text.partition(': ')
        if colon and name.replace('.', '').isidentifier():
            text = rest
    # mmengine puts the class it was building in front.
    text = re.sub(r'^class `\w+` in \S+: ', '', text)
    return ' '.join(text.split()) or type(error).__name__


def main_guard(main: Callable[[], object]) -> NoReturn:
    """Run ``main`` and end the program.

    ``ValueError`` and ``OSError`` end as one line ``error: <message>`` on standard error
    with exit status 2, and so does a missing torch, mmcv, mmengine or mmdet; Ctrl-C ends
    with 130, a training that was asked to stop with ``PREEMPTED``; every other exception is a
    bug and keeps its traceback. With the environment variable ``MMFACE_TRACEBACK`` set,
    ``ValueError`` and ``OSError`` keep theirs too.
    """
    try:
        main()
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(f'{interrupt}\n' if str(interrupt) else 'interrupted\n')
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (error.name or '').partition('.')[0] not in SET_UP:
            raise
        sys.stderr.write(f'error: {error}; run `bash build_mmcv.sh`, which installs it\n')
        sys.exit(2)
    except USER_ERRORS as error:
        if os.environ.get(TRACEBACK_ENV):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.write(f'error: {one_line(error)}\n')
        sys.exit(2)
    sys.exit(0)


def make_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Make a parser whose ``--help`` ends with ``example``, a command to copy."""
    return argparse.ArgumentParser(
        description=description,
        epilog=f'example:\n  {example}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
