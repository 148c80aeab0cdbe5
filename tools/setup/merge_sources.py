# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Merge the C++ sources of mmcv's operators into a few files, so that they compile faster.

The compiler spends nearly all its time on the same PyTorch headers, which each of mmcv's 78 small
source files includes. In a few merged files they are read only a few times. Files that define the
same name stay in different groups. Macros of one file are hidden from the next. The sources move to
a sub-folder, where mmcv's setup.py does not look for them. The file of the Python bindings stays
alone and reads fewer headers.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

# By far the slowest file: it alone reads pybind11 and takes as long as two of the others.
BINDINGS = 'pybind.cpp'
# <torch/extension.h> also reads all of torch's C++ frontend (torch::nn, torch::optim), of which the
# bindings use nothing: a third of their time.
HEADER = '#include <torch/extension.h>'
HEADERS = '#include <torch/types.h>\n#include <torch/csrc/utils/pybind.h>'
FOLDERS = ('pytorch', 'pytorch/cpu')

COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/', re.S)
MACRO = re.compile(r'^[ \t]*#[ \t]*define[ \t]+(\w+)', re.M)
TYPE = re.compile(r'^(?:struct|class|union|enum(?:\s+class)?)\s+(\w+)[^;{]*\{', re.M)
# The head of a function starts in the first column and is followed by a brace, not a semicolon.
FUNCTION = re.compile(r'^\w[\w:<>,*&\s]*[\s*&](\w+)\s*\([^;{}]*\)\s*\{', re.M)


class Source(NamedTuple):
    """One source file with the names that may clash with names in another file."""

    path: Path
    macros: frozenset[str]
    names: frozenset[str]


def read_source(path: Path) -> Source:
    """Collect the macros, types and functions that a file defines outside any namespace."""
    text = COMMENT.sub('', path.read_text())
    return Source(
        path, frozenset(MACRO.findall(text)), frozenset(FUNCTION.findall(text) + TYPE.findall(text))
    )


def group_sources(sources: list[Source], groups: int) -> list[list[Source]]:
    """Distribute the sources over groups of about equal size without clashing names.

    Args:
        sources: All files to merge.
        groups: Minimum number of groups. Name clashes can require more.
    """
    found: list[list[Source]] = [[] for _ in range(groups)]
    for source in sorted(sources, key=lambda s: (-s.path.stat().st_size, str(s.path))):
        fitting = [g for g in found if not any(source.names & other.names for other in g)]
        if not fitting:
            found.append([])
            fitting = [found[-1]]
        min(fitting, key=lambda g: sum(s.path.stat().st_size for s in g)).append(source)
    return [group for group in found if group]


def merged_text(group: list[Source], csrc: Path) -> str:
    """Return a text that includes each file of a group and hides its macros from the others."""
    lines = []
    for source in group:
        macros = sorted(source.macros)
        lines += [f'#pragma push_macro("{name}")' for name in macros]
        lines.append(f'#include "../{source.path.relative_to(csrc)}"')
        lines += [f'#pragma pop_macro("{name}")' for name in macros]
    return '\n'.join(lines) + '\n'


def merge(root: Path, groups: int) -> int:
    """Merge the sources below an unpacked mmcv source distribution, in place.

    Args:
        root: Folder that holds mmcv's ``setup.py``.
        groups: Minimum number of merged files.

    Returns:
        The number of files that the compiler reads afterwards.

    Raises:
        FileNotFoundError: ``root`` contains no sources of mmcv's operators.
    """
    csrc = root / 'mmcv' / 'ops' / 'csrc'
    sources = []
    for folder in FOLDERS:
        for path in sorted((csrc / folder).glob('*.cpp')):
            if path.name == BINDINGS:
                path.write_text(path.read_text().replace(HEADER, HEADERS))
                continue
            moved = path.parent / 'merged' / path.name
            moved.parent.mkdir(exist_ok=True)
            sources.append(read_source(path.rename(moved)))
    if not sources:
        raise FileNotFoundError(
            f'no .cpp files below {csrc}: expected an unpacked source distribution of mmcv'
        )
    merged = group_sources(sources, groups)
    for index, group in enumerate(merged):
        (csrc / 'pytorch' / f'merged_{index}.cpp').write_text(merged_text(group, csrc))
    return len(merged) + 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Example:\n  python tools/setup/merge_sources.py /tmp/onedl_mmcv-2.3.6',
    )
    parser.add_argument('root', type=Path, help="folder that contains mmcv's setup.py")
    parser.add_argument('--groups', type=int, default=3, help='number of merged files (default: 3)')
    args = parser.parse_args()
    try:
        print(f'{merge(args.root, args.groups)} files to compile')
    except FileNotFoundError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
