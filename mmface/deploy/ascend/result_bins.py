# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Results of ais_bench: ``<stem>_<i>.bin`` is output i of the network for one image."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmface.deploy.ascend.manifest import BinImage, BinManifest, Output
from mmface.deploy.runtime.letterbox import Placement


def check_results(folder: str | os.PathLike[str], manifest: BinManifest) -> None:
    """Check that a folder holds the results of all images of a manifest, and no others.

    Raises:
        FileNotFoundError: The folder or a result is missing.
        ValueError: The size of a result differs from the network's output, or there are results
            that are not in the manifest.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f'folder of results {root} does not exist; run ais_bench first')
    sizes = {path.name: path.stat().st_size for path in root.iterdir() if path.suffix == '.bin'}
    if not sizes:
        raise FileNotFoundError(
            f'no .bin in {root}: expected the folder that ais_bench writes to, '
            '<output>/<output_dirname>'
        )
    expected = {
        result_name(image, number): output
        for image in manifest.images
        for number, output in enumerate(manifest.outputs)
    }
    missing = [name for name in expected if name not in sizes]
    extra = sorted(set(sizes) - set(expected))
    if missing:
        text = f'{len(missing)} of {len(expected)} results are not in {root} (first: {missing[0]})'
        if extra:
            text += f', but {len(extra)} others are (first: {extra[0]})'
        raise FileNotFoundError(
            f'{text}. Expected <stem>_<i>.bin, i from 0 to {len(manifest.outputs) - 1}, of all '
            f'{len(manifest.images)} images: run ais_bench on all bins of this manifest'
        )
    if extra:
        raise ValueError(
            f'{len(extra)} results in {root} belong to no image of the manifest (first: '
            f'{extra[0]}): this is another run, or another model with more outputs than '
            f'{len(manifest.outputs)}'
        )
    for name, output in expected.items():
        if sizes[name] != output.bytes:
            raise ValueError(f'{root / name}: {_size_problem(output, sizes[name])}')


def result_name(image: BinImage, number: int) -> str:
    """Return the name that ais_bench gives to output ``number`` of an image."""
    return f'{image.stem}_{number}.bin'


def read_results(
    folder: str | os.PathLike[str], image: BinImage, manifest: BinManifest
) -> tuple[list[NDArray[np.float32]], Placement]:
    """Read the outputs of the network for one image.

    Args:
        folder: Folder that ``check_results`` has checked.
        image: The image.
        manifest: Manifest of the bins.

    Returns:
        The outputs, each for a batch of one, and the placement of the image in the input. These
        are arguments of ``mmface.deploy.runtime.decode.decode``.
    """
    outputs = [
        np.fromfile(Path(folder, result_name(image, number)), np.float32).reshape(output.shape)
        for number, output in enumerate(manifest.outputs)
    ]
    placement = Placement(image.scale, image.offset, image.content, manifest.spec.size)
    return outputs, placement


def _size_problem(output: Output, found: int) -> str:
    shape = 'x'.join(map(str, output.shape))
    text = (
        f'expected {output.bytes:,} bytes, output {output.name} of {shape} float32, found {found:,}'
    )
    if found * 2 == output.bytes:
        return f'{text}: float16? Build the OM with float32 outputs (tools/deploy/build_om.sh does)'
    if output.bytes and found and found % output.bytes == 0:
        return f'{text}: several images in one file? Leave out ais_bench --output_batchsize_axis'
    return f'{text}: the OM has another model or size than the manifest ({output.name})'
