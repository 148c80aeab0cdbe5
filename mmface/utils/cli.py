# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Shared parts of the command-line tools: one-line errors, help layout, model options.

A tool looks like this::

    def main() -> None:
        parser = make_parser('Count faces.', 'python tools/count.py labelv2.txt')
        parser.add_argument('label_file', type=Path)
        args = parser.parse_args()
        ...


    if __name__ == '__main__':
        main_guard(main)

This module imports neither torch nor mmengine. So ``--help`` stays fast for tools that import
those inside ``main``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from mmface.utils.extras import missing_package

#: If this variable is set, errors that a tool shows in one line keep their full traceback.
TRACEBACK_ENV = 'MMFACE_TRACEBACK'

#: Exit status of a training run that was asked to stop and can be resumed (EX_TEMPFAIL).
PREEMPTED = 75

# The package raises ValueError and FileNotFoundError for bad user input. Any other OSError
# (disk full, no permission, not a directory) is not a bug in the code either.
USER_ERRORS: tuple[type[BaseException], ...] = (ValueError, OSError)


def one_line(error: BaseException) -> str:
    """Return the message of ``error`` as one line.

    A data loader worker sends its traceback as the message of the exception. In this case the
    message is the last line of the traceback, without the class name in front.
    """
    text = str(error).strip()
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        text = f'{error.strerror}: {error.filename}' if error.filename else error.strerror
    if 'Traceback (most recent call last)' in text:
        text = text.splitlines()[-1]
        name, colon, rest = text.partition(': ')
        if colon and name.replace('.', '').isidentifier():
            text = rest
    # mmengine puts the name of the class that it was building in front.
    text = re.sub(r'^class `\w+` in \S+: ', '', text)
    return ' '.join(text.split()) or type(error).__name__


def main_guard(main: Callable[[], object]) -> NoReturn:
    """Run ``main`` and exit the program.

    ``ValueError``, ``OSError`` and a missing optional package are printed as one line
    ``error: <message>`` on standard error, with exit status 2. Ctrl-C exits with 130, and a
    training run that was asked to stop exits with ``PREEMPTED``. Every other exception is a bug
    and keeps its traceback. If the environment variable ``MMFACE_TRACEBACK`` is set,
    ``ValueError`` and ``OSError`` keep theirs too.
    """
    try:
        main()
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(f'{interrupt}\n' if str(interrupt) else 'interrupted\n')
        sys.exit(130)
    except ImportError as error:
        text = missing_package(error)
        if text is None:
            raise
        sys.stderr.write(f'error: {text}\n')
        sys.exit(2)
    except USER_ERRORS as error:
        if os.environ.get(TRACEBACK_ENV):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.write(f'error: {one_line(error)}\n')
        sys.exit(2)
    sys.exit(0)


def make_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Build a parser whose ``--help`` ends with ``example``, a command to copy.

    An example ``python tools/...`` is shown as ``mmface COMMAND`` when that command runs.
    """
    prog = Path(sys.argv[0]).name
    if prog.startswith('mmface '):
        example = re.sub(r'python tools/\S+\.py', prog, example)
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f'example:\n  {example}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def dict_action() -> dict[str, Any]:
    """Return the argument of ``add_argument`` for options of the form KEY=VALUE."""
    with suppress(ModuleNotFoundError):  # --help needs no mmengine; a run names what is missing
        from mmengine.config import DictAction

        return {'action': DictAction}
    return {}


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing share."""
    add = parser.add_argument
    add('--data-path', help='folder of the data set (default: data_root of the config)')
    add('--device', default='auto', help='auto (default), cpu, cuda or npu')
    add(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that hold any Python object: they can run code',
    )
    add('--cfg-options', nargs='+', metavar='KEY=VALUE', help='config values', **dict_action())
    add('--launcher', choices=('none', 'pytorch', 'slurm'), default='none')
    add('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
