# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Which pictures of a data set are there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def missing_pictures(root: str | Path, names: Iterable[str]) -> list[str]:
    """Give those of ``names``, paths relative to ``root``, that are no files in it.

    Listing each folder once is far quicker on network disks than asking for every file.
    """
    there: dict[Path, set[str]] = {}
    missing = []
    for name in names:
        place = Path(root) / name
        folder = place.parent
        if folder not in there:
            there[folder] = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
        if place.name not in there[folder]:
            missing.append(name)
    return missing
