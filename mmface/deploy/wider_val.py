# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""WIDER FACE val for tools without torch: pictures in, rows and average precision out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.wider_result import WiderResult
from mmface.utils.images import IMAGE_SUFFIXES


def find_pictures(
    root: str | os.PathLike[str], names: Iterable[str] | None = None
) -> dict[str, Path]:
    """Find pictures in a folder.

    Args:
        root: Folder of the pictures, or of the data set (then its ``val/images``).
        names: The pictures wanted, ``event/name.jpg`` or ``event/name``; all if ``None``.

    Returns:
        Path of each picture by its name relative to the folder, ``event/name.jpg``; sorted if
        ``names`` is ``None``.

    Raises:
        FileNotFoundError: If the folder, a picture wanted, or any picture is missing.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder: expected pictures or WIDER FACE in it')
    if (folder / 'val' / 'images').is_dir():
        folder = folder / 'val' / 'images'
    found = {
        path.relative_to(folder).as_posix(): path
        for path in (Path(place, name) for place, _, files in _walk(folder) for name in files)
        if path.suffix.lower() in IMAGE_SUFFIXES
    }
    if names is None:
        if not found:
            raise FileNotFoundError(f'no picture ({", ".join(sorted(IMAGE_SUFFIXES))}) in {folder}')
        return dict(sorted(found.items()))
    by_stem = {name.rpartition('.')[0]: name for name in found}
    asked = list(names)
    known = [name if name in found else by_stem.get(name) for name in asked]
    missing = [name for name, there in zip(asked, known, strict=True) if there is None]
    if missing:
        raise FileNotFoundError(
            f'{len(missing)} of {len(asked)} pictures are not in {folder} (first: {missing[0]}); '
            'get them, or name those you have with --part'
        )
    return {name: found[name] for name in known if name is not None}


def _walk(folder: Path) -> Iterable[tuple[str, list[str], list[str]]]:
    # Links are followed: prepared data sets are made of them.
    return os.walk(folder, followlinks=True)


def detection_rows(
    bboxes: NDArray[np.floating], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], int]:
    """Give faces as the evaluation takes them.

    Args:
        bboxes: (n, 4) x1, y1, x2, y2.
        scores: (n,).

    Returns:
        Rows (m, 5) x, y, w, h, score, and how many were left out because of a NaN or infinite
        number, which the evaluation cannot rank.
    """
    corners = np.asarray(bboxes, np.float64).reshape(-1, 4)
    with np.errstate(invalid='ignore'):  # infinite corners: NaN sides
        sides = corners[:, 2:] - corners[:, :2]
    rows = np.concatenate([corners[:, :2], sides, np.reshape(scores, (-1, 1))], axis=1)
    finite = np.isfinite(rows).all(axis=1)
    return rows[finite], len(rows) - int(finite.sum())


def format_val_ap(result: WiderResult) -> str:
    """Give the lines that users of the usual WIDER FACE evaluation look for."""
    lines = [f'{name.title():6} Val AP: {ap:.6f}' for name, ap in result.ap.items()]
    part = ' (a part of WIDER FACE val)' if result.partial else ''
    lines.append(
        f'{result.images} pictures{part}, {result.detections} faces found, protocol '
        f'{result.protocol}, IoU {result.iou_thr:g}'
    )
    return '\n'.join(lines)
