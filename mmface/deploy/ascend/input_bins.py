# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Bins for the NPU: files that hold an image in the format of the network's input."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mmface.deploy.ascend.manifest import BinImage
from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime.letterbox import place, to_blob, to_canvas
from mmface.utils.files import whole_file

AIPP_NAME = 'aipp.config'
#: File types that ais_bench takes as inputs.
_INPUTS = ('.bin', '.npy')


def uint8_padding(spec: ModelSpec) -> tuple[int, ...]:
    """Return the padding of uint8 bins, a pixel value for each channel of the input.

    With 'keep_ratio' the padding must be 0 after normalization. It is therefore the mean, which
    has to be rounded: 127.5 becomes 128, and the network sees 0.5 / std. Otherwise it is black.
    """
    if spec.resize != 'keep_ratio':
        return (0, 0, 0)
    return tuple(round(value) for value in spec.mean)


def write_input_bin(
    folder: str | os.PathLike[str],
    file: str,
    image: NDArray[np.uint8],
    spec: ModelSpec,
    dtype: str,
) -> BinImage:
    """Write the bin of one image, ``<stem>.bin``, whole or not at all.

    Args:
        folder: Folder to write to.
        file: Name of the image, ``event/name.jpg``.
        image: Its pixels, uint8 BGR (h, w, 3).
        spec: Specification of the model. Its size is the size of the input.
        dtype: See ``BinManifest``.

    Returns:
        Its entry in the manifest.
    """
    pixels, placement = place(image, spec)
    if dtype == 'float32':
        values: NDArray = to_blob([pixels], [placement], spec)
    else:
        order = slice(None, None, -1 if spec.rgb else 1)
        canvas = to_canvas(pixels, placement, uint8_padding(spec)[order])
        values = np.ascontiguousarray(canvas[..., order])
    stem = PurePosixPath(file).stem
    with whole_file(Path(folder, f'{stem}.bin'), sync=False) as tmp:
        values.tofile(tmp)
    return BinImage(
        stem=stem,
        file=file,
        width=image.shape[1],
        height=image.shape[0],
        scale=placement.scale,
        offset=placement.offset,
        content=placement.content,
        sha256=hashlib.sha256(values.data).hexdigest(),
    )


def check_names(files: Iterable[str]) -> None:
    """Check that no two images have the same name for their bins or results.

    ais_bench takes all bins from one folder. It names results after the part of a name before the
    first dot.

    Raises:
        ValueError: Two images share a stem, or a stem contains a dot.
    """
    seen: dict[str, str] = {}
    for file in files:
        stem = PurePosixPath(file).stem
        if '.' in stem:
            raise ValueError(
                f'image {file}: the name has a dot before its extension, and ais_bench names '
                'results after the part before the first dot; rename the image'
            )
        if stem in seen:
            raise ValueError(
                f'images {seen[stem]} and {file} have the same name, and all bins are in one '
                'folder; rename one, or prepare the folders separately'
            )
        seen[stem] = file


def check_folder(folder: str | os.PathLike[str], files: Iterable[str]) -> None:
    """Check that a folder has no other inputs, because ais_bench would take those too.

    Raises:
        ValueError: There is a .bin or .npy file that belongs to none of the images ``files``.
    """
    if not Path(folder).is_dir():
        return
    ours = {f'{PurePosixPath(file).stem}.bin' for file in files}
    there = {path.name for path in Path(folder).iterdir() if path.suffix.lower() in _INPUTS}
    other = sorted(there - ours)
    if other:
        raise ValueError(
            f'{folder} holds {len(other)} inputs of other images (first: {other[0]}), which '
            'ais_bench would take too: choose another folder or empty it'
        )
