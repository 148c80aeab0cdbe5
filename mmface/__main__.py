# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The command ``mmface``: one subcommand for each module of ``mmface.cli``."""

from __future__ import annotations

import ast
import difflib
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import NoReturn

import mmface
import mmface.cli
from mmface.utils.cli import main_guard


def commands() -> dict[str, str]:
    """Map each subcommand to the name of its module."""
    names = [module.name for module in iter_modules(mmface.cli.__path__)]
    return {name.replace('_', '-'): f'mmface.cli.{name}' for name in sorted(names)}


def summary(module: str) -> str:
    """Return the first line of a module's docstring, without importing the module."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding='utf-8'))
    return (ast.get_docstring(tree) or '').partition('\n')[0].rstrip('.')


def overview() -> str:
    """Return the help text, with one line for each subcommand."""
    lines = [f'  {name:20}{summary(module)}' for name, module in commands().items()]
    return '\n'.join(
        [
            f'mmface {mmface.__version__}: face detection with SCRFD, CenterFace and CenterNet2',
            '',
            'usage: mmface COMMAND ...',
            '',
            *lines,
            '',
            'mmface COMMAND --help shows the options of a command.',
            '',
            'example:',
            '  mmface detect photos --out found',
        ]
    )


def run() -> NoReturn:
    """Run the subcommand that ``sys.argv`` names, then exit."""
    known = commands()
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help', 'help'):
        print(overview())
        sys.exit(0)
    if name == '--version':
        print(mmface.__version__)
        sys.exit(0)
    if name not in known:
        similar = difflib.get_close_matches(name, known, n=2)
        hint = f'did you mean {" or ".join(similar)}?' if similar else f'one of {", ".join(known)}'
        sys.stderr.write(f'error: no command {name!r}: {hint}\n')
        sys.exit(2)
    # Usage and error messages then begin with "mmface train".
    sys.argv = [f'mmface {name}', *sys.argv[2:]]
    main_guard(lambda: import_module(known[name]).main())


if __name__ == '__main__':
    run()
