# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find the folder of a data set from the path that a user gives."""

from __future__ import annotations

import os
from pathlib import Path

#: Names that a data set has in a folder above it.
NESTED = ('coco2017', 'coco', 'COCO', 'WIDERFace', 'WIDER_FACE', 'widerface', 'WIDERFACE')
#: Folders by which a data set is recognised.
PARTS = ('annotations', 'train', 'val', 'train2017', 'val2017', 'WIDER_train', 'WIDER_val')


def find_data_root(path: str | os.PathLike[str]) -> str:
    """Return the folder of the data set at ``path`` or one level below it.

    Args:
        path: The folder of a data set, or the folder above one of the names in ``NESTED``. ``~``
            is the home folder.

    Raises:
        FileNotFoundError: ``path`` is not a folder.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f'data path {root} does not exist; name another folder, or make one: WIDER FACE with '
            'tools/data/prepare_widerface.py, small drawn sets with tools/data/make_toy.py'
        )
    if not any((root / part).is_dir() for part in PARTS):
        for name in NESTED:
            below = root / name
            if any((below / part).is_dir() for part in PARTS):
                return str(below)
    return str(root)
