# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The list of bins: which picture each one is, and how to read what the network gives for it.

Bins are bare numbers. The manifest, a JSON file beside them, holds all that the step behind the
NPU has to know, so that neither pictures nor model are needed there.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from mmface.deploy.model_spec import METADATA_KEY, ModelSpec
from mmface.utils.files import write_text

MANIFEST_NAME = 'manifest.json'
_FORMAT = 'mmface bins 1'
DTYPES = {'float32': 4, 'uint8': 1}


@dataclass(frozen=True)
class BinPicture:
    """A picture and its bin, ``<stem>.bin``.

    Attributes:
        stem: Name without folder and extension, unique in the manifest.
        file: ``event/name.jpg``, relative to the folder of the pictures.
        width: Of the picture in pixels.
        height: Likewise.
        scale: Input pixels per pixel of the picture, x and y.
        offset: Left-top corner of the picture in the input, x and y in input pixels.
        content: Height and width that the picture takes in the input.
        sha256: Of the bin.
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
    """An output of the network for one picture.

    Attributes:
        name: In the ONNX file.
        shape: For a batch of one.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size of its file, float32."""
        return math.prod(self.shape) * 4


@dataclass(frozen=True)
class BinManifest:
    """A folder of bins.

    Attributes:
        model: Name of the ONNX file the bins are for.
        model_sha256: Of that file.
        spec: How to feed and read it; its size is that of the input.
        dtype: 'float32', normalised, N x C x H x W; or 'uint8', pixels, H x W x C.
        padding: Pixel value of each channel around a picture in uint8 bins.
        outputs: In the order of the model.
        pictures: One for each bin.
    """

    model: str
    model_sha256: str
    spec: ModelSpec
    dtype: str
    padding: tuple[int, ...]
    outputs: tuple[Output, ...]
    pictures: tuple[BinPicture, ...]

    @property
    def bytes(self) -> int:
        """Size of each bin."""
        return bin_bytes(self.spec.size, self.dtype)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest, whole or not at all."""
        values = asdict(self)
        values[METADATA_KEY] = values.pop('spec')
        values = {'format': _FORMAT, 'bytes': self.bytes, **values}
        write_text(path, json.dumps(values, indent=1) + '\n')


def bin_bytes(size: tuple[int, int], dtype: str) -> int:
    """Size of the bin of a picture for an input of ``size``, height and width."""
    return 3 * size[0] * size[1] * DTYPES[dtype]


def read_manifest(path: str | os.PathLike[str]) -> BinManifest:
    """Read a manifest.

    Args:
        path: The file, or the folder of bins it lies in.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is none, or of another version.
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
        if values.pop('format') != _FORMAT:
            raise ValueError(f'format is not {_FORMAT!r}')
        del values['bytes']  # for readers of the file
        values['spec'] = ModelSpec.from_json(json.dumps(values.pop(METADATA_KEY)))
        values['outputs'] = tuple(
            Output(output['name'], tuple(output['shape'])) for output in values['outputs']
        )
        pictures = tuple(BinPicture(**_tuples(picture)) for picture in values.pop('pictures'))
        manifest = BinManifest(pictures=pictures, **_tuples(values))
        for picture in pictures:
            _check_names(picture)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{place} is no manifest of bins of this version ({error}): run '
            'tools/deploy/ascend_preprocess.py again'
        ) from error
    return manifest


def _check_names(picture: BinPicture) -> None:
    """Refuse names that would lead out of the folders of bins, results and txt files."""
    file = PurePosixPath(picture.file)
    if file.is_absolute() or '..' in file.parts or file.stem != picture.stem or not file.stem:
        raise ValueError(f'picture {picture.file!r} with the stem {picture.stem!r}')


def _tuples(values: dict) -> dict:
    """JSON knows lists only."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
