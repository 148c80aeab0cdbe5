# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find the configs that are part of mmface. Needs only the standard library."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def config_dir() -> Path:
    """Return the folder of the configs: in the installed package, or else in the checkout."""
    inside = _PACKAGE / 'configs'
    return inside if inside.is_dir() else _PACKAGE.parent / 'configs'


def model_configs() -> list[Path]:
    """List the configs of detectors, without those of ``_base_``."""
    return sorted(config_dir().glob('[!_]*/*.py'))


def config_path(config_or_name: str | os.PathLike[str]) -> Path:
    """Find a config from any working directory.

    Args:
        config_or_name: A file, the name of a detector of mmface such as 'scrfd_10g', or a
            path relative to the folder of the configs such as '_base_/tta/face_tta.py'.

    Returns:
        The path of the file. A file is returned as given.

    Raises:
        FileNotFoundError: Neither a file nor a config has this name. The message lists similar
            names.

    Example:
        >>> config_path('scrfd_10g').name
        'scrfd_10g.py'
    """
    path = Path(config_or_name).expanduser()
    if path.is_file():
        return path
    folder = config_dir()
    known = {file.stem: file for file in model_configs()}
    name = os.fspath(config_or_name)
    if name in known:
        return known[name]
    below = folder / name.removeprefix('configs/')
    if below.suffix == '.py' and below.is_file():
        return below
    similar = difflib.get_close_matches(path.name.removesuffix('.py'), known, n=4)
    raise FileNotFoundError(
        f'config {name} does not exist: expected a file or the name of one of {folder}'
        + (f'; similar names: {", ".join(similar)}' if similar else '')
    )
