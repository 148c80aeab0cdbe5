# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find the image files of WIDER FACE val, or of any folder with the layout ``event/name.jpg``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mmface.utils.file_kinds import IMAGE_SUFFIXES
from mmface.utils.walk import walk


def find_images(
    root: str | os.PathLike[str], names: Iterable[str] | None = None
) -> dict[str, Path]:
    """Find the images of a folder, or of WIDER FACE val inside it.

    Args:
        root: Folder of the images, or of the data set (then its ``val/images``).
        names: The required images, ``event/name.jpg`` or ``event/name``; ``None`` for all.

    Returns:
        Path of each image by its name relative to the folder, ``event/name.jpg``. Sorted if
        ``names`` is ``None``.

    Raises:
        FileNotFoundError: The folder or a required image is missing, or there is no image.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder: expected images or WIDER FACE in it')
    if (folder / 'val' / 'images').is_dir():
        folder = folder / 'val' / 'images'
    found = {
        path.relative_to(folder).as_posix(): path
        for path in walk(folder)[0]
        if path.suffix.lower() in IMAGE_SUFFIXES
    }
    if names is None:
        if not found:
            raise FileNotFoundError(f'no image ({", ".join(sorted(IMAGE_SUFFIXES))}) in {folder}')
        return dict(sorted(found.items()))
    by_stem = {name.rpartition('.')[0]: name for name in found}
    asked = list(names)
    known = [name if name in found else by_stem.get(name) for name in asked]
    missing = [name for name, there in zip(asked, known, strict=True) if there is None]
    if missing:
        raise FileNotFoundError(
            f'{len(missing)} of {len(asked)} images are not in {folder} (first: {missing[0]}); '
            'download them, or list only those you have'
        )
    return {name: found[name] for name in known if name is not None}
