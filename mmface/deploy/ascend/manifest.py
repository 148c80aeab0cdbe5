# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The list of bins: the image of each bin, and how to read the outputs of the network for it.

Bins contain only numbers. The manifest, a JSON file in the same folder, holds everything that the
postprocessing needs, so that it needs neither images nor model.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmface.deploy.model_spec import METADATA_KEY, ModelSpec
from mmface.utils.files import is_safe, write_text

MANIFEST_NAME = 'manifest.json'
_FORMAT = 'mmface bins 1'
DTYPES = {'float32': 4, 'uint8': 1}
# Upper limit for sizes, offsets and outputs. It keeps computed values finite and in memory.
_MAX_VALUES = 2**28


@dataclass(frozen=True)
class BinImage:
    """An image and its bin, ``<stem>.bin``.

    Attributes:
        stem: Name without folder and extension, unique in the manifest.
        file: ``event/name.jpg``, relative to the folder of the images.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        scale: Input pixels per pixel of the image, x and y.
        offset: Top-left corner of the image in the input, x and y in input pixels.
        content: Height and width of the image in the input.
        sha256: Digest of the bin.
    """

    stem: str
    file: str
    width: int
    height: int
    scale: tuple[float, float]
    offset: tuple[float, float]
    content: tuple[int, int]
    sha256: str


@dataclass(frozen=True)
class Output:
    """An output of the network for one image.

    Attributes:
        name: Name in the ONNX file.
        shape: Shape for a batch of one.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Return the size of its file (float32) in bytes."""
        return math.prod(self.shape) * 4


@dataclass(frozen=True)
class BinManifest:
    """A folder of bins.

    Attributes:
        model: Name of the ONNX file that the bins are for.
        model_sha256: Digest of that file.
        spec: How to feed the network and read its outputs. Its size is the size of the input.
        dtype: 'float32': normalized, N x C x H x W; or 'uint8': pixels, H x W x C.
        padding: Pixel value of each channel in the padding of uint8 bins.
        outputs: Outputs in the order of the model.
        images: One entry for each bin.
    """

    model: str
    model_sha256: str
    spec: ModelSpec
    dtype: str
    padding: tuple[int, ...]
    outputs: tuple[Output, ...]
    images: tuple[BinImage, ...]

    @property
    def bytes(self) -> int:
        """Return the size of each bin in bytes."""
        return bin_bytes(self.spec.size, self.dtype)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest, completely or not at all."""
        values = asdict(self)
        values[METADATA_KEY] = values.pop('spec')
        values = {'format': _FORMAT, 'bytes': self.bytes, **values}
        write_text(path, json.dumps(values, indent=1) + '\n')


def bin_bytes(size: tuple[int, int], dtype: str) -> int:
    """Return the bytes of the bin of an image for an input of ``size``, height and width."""
    return 3 * size[0] * size[1] * DTYPES[dtype]


def read_manifest(path: str | os.PathLike[str]) -> BinManifest:
    """Read a manifest.

    Args:
        path: The file, or the folder of bins that contains it.

    Raises:
        FileNotFoundError: The manifest does not exist.
        ValueError: The file is not a manifest, or has another version.
    """
    place = Path(path)
    if place.is_dir():
        place = place / MANIFEST_NAME
    if not place.is_file():
        raise FileNotFoundError(
            f'{place} does not exist: expected the manifest that tools/deploy/'
            'ascend_preprocess.py writes as its last step; run it (again)'
        )
    try:
        values = json.loads(place.read_text(encoding='utf-8'))
        _check(isinstance(values, dict) and values.get('format') == _FORMAT, 'format', _FORMAT)
        _check(isinstance(values[METADATA_KEY], dict), METADATA_KEY, 'a specification')
        padding = tuple(map(int, _numbers(values, 'padding', None, low=0, high=255)))
        _check(len(padding) in (0, 3), 'padding', '3 numbers, or none for float32')
        return BinManifest(
            model=_text(values, 'model'),
            model_sha256=_text(values, 'model_sha256'),
            spec=ModelSpec.from_json(json.dumps(values[METADATA_KEY])),
            dtype=_text(values, 'dtype', tuple(DTYPES)),
            padding=padding,
            outputs=tuple(map(_output, _list(values, 'outputs'))),
            images=tuple(map(_image, _list(values, 'images'))),
        )
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f'{place} is not a manifest of bins of this version ({error}): run '
            'tools/deploy/ascend_preprocess.py again'
        ) from error


def _output(values: Any) -> Output:
    shape = tuple(map(int, _numbers(values, 'shape', None, low=1)))
    _check(math.prod(shape) <= _MAX_VALUES, 'shape', f'at most {_MAX_VALUES} values')
    return Output(_text(values, 'name'), shape)


def _image(values: Any) -> BinImage:
    width, height, *content = (
        *_numbers(values, 'width', 0, low=1),
        *_numbers(values, 'height', 0, low=1),
        *_numbers(values, 'content', 2, low=1),
    )
    scale = _numbers(values, 'scale', 2, whole=False)
    offset = _numbers(values, 'offset', 2, whole=False)
    _check(min(scale) > 0, 'scale', 'two numbers above 0')
    stem, file = _text(values, 'stem'), _text(values, 'file')
    # Names of results and txt files are made from them, so they must stay inside their folders.
    path = PurePosixPath(file)
    _check(is_safe(file.split('/')), 'file', 'event/name.jpg')
    _check(stem == path.stem, 'stem', f'that of {file!r}')
    return BinImage(
        stem=stem,
        file=file,
        width=int(width),
        height=int(height),
        scale=(scale[0], scale[1]),
        offset=(offset[0], offset[1]),
        content=(int(content[0]), int(content[1])),
        sha256=_text(values, 'sha256'),
    )


def _check(holds: bool, entry: str, expected: str) -> None:
    if not holds:
        raise ValueError(f'{entry}: expected {expected}')


def _text(values: Any, entry: str, allowed: tuple[str, ...] = ()) -> str:
    """Return an entry that is a text without null characters, one of ``allowed`` if given."""
    value = values[entry]
    _check(isinstance(value, str) and '\0' not in value, entry, 'text')
    _check(not allowed or value in allowed, entry, ' or '.join(allowed))
    return value


def _list(values: Any, entry: str) -> list[Any]:
    value = values[entry]
    _check(isinstance(value, list) and len(value) > 0, entry, 'a list')
    return value


def _numbers(
    values: Any,
    entry: str,
    count: int | None,
    low: float = -_MAX_VALUES,
    high: float = _MAX_VALUES,
    whole: bool = True,
) -> list[float]:
    """Return an entry that is a list of ``count`` numbers (None: any; 0: one, not in a list)."""
    found = [values[entry]] if count == 0 else values[entry]
    kinds = int if whole else (int, float)
    _check(
        isinstance(found, list)
        and (len(found) == count or not count)
        and all(isinstance(n, kinds) and not isinstance(n, bool) for n in found)
        and all(low <= n <= high for n in found),
        entry,
        f'{count or ""} {"whole " if whole else ""}numbers from {low:g} to {high:g}',
    )
    return found
