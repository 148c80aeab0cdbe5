# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The input of an OM file, whose size is fixed when ATC builds it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmface.deploy.ascend.aipp import read_aipp
from mmface.deploy.ascend.manifest import Output
from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime import FaceDetector
from mmface.deploy.runtime.readers import reader_of


def open_for_om(model: str | os.PathLike[str], size: Sequence[int] | None = None) -> FaceDetector:
    """Open the ONNX file that an OM is built from. ``spec.size`` is the size of its input.

    Args:
        model: The ONNX file.
        size: Height and width of the input, needed if the file does not fix them.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a face detector with a float32 input, or its size is not fixed.
    """
    detector = FaceDetector(model, score_thr=None, size=size)  # thresholds of the test
    reader_of(detector.spec)  # rejects CenterNet2, whose second file the recipe does not run
    kind = detector.session.get_inputs()[0].type
    if kind != 'tensor(float)':
        raise ValueError(
            f'{model}: its input is {kind}; expected float32, as tools/deploy/export_onnx.py '
            'writes it (ATC chooses the precision inside)'
        )
    if 0 in detector.spec.size:
        raise ValueError(
            f"{model}: this model is tested at each image's own size, but an OM has one size: "
            'choose it, for instance size=(800, 800)'
        )
    return detector


def om_spec(spec: ModelSpec, resize: str | None = None) -> ModelSpec:
    """Return the specification for an input whose size is the same for all images.

    A CenterFace that is tested on stretched images, each at about its own size, gets centred
    images instead: stretching to a fixed size would change the aspect ratio.

    Args:
        spec: Specification of the ONNX file.
        resize: The user's choice, see ``ModelSpec.resize``.
    """
    own_size = spec.family == 'centerface' and spec.resize == 'stretch'
    return replace(spec, resize=resize or ('centre' if own_size else spec.resize))


def network_outputs(detector: FaceDetector) -> tuple[Output, ...]:
    """Run the network once to find the shapes of its outputs for one image."""
    batch = detector.batch_size or 1
    arrays = detector.run(np.zeros((batch, 3, *detector.spec.size), np.float32))
    return tuple(
        Output(name, (len(array) // batch, *array.shape[1:]))
        for name, array in zip(detector.output_names, arrays, strict=True)
    )


def atc_input_shape(
    detector: FaceDetector, batch: int, aipp: str | os.PathLike[str] | None = None
) -> str:
    """Return ATC's ``--input_shape`` for a model, ``name:n,c,h,w``.

    Args:
        detector: See ``open_for_om``.
        batch: Batch size.
        aipp: AIPP file whose size is checked.

    Raises:
        FileNotFoundError: The AIPP file does not exist.
        ValueError: The batch or the AIPP file does not fit the model.
    """
    check_batch(detector, batch)
    height, width = detector.spec.size
    if aipp is not None and (found := read_aipp(aipp).size) != (height, width):
        raise ValueError(
            f'{aipp} is for images of {found[0]}x{found[1]}, the model takes {height}x{width} '
            '(height x width): prepare the bins again for this model'
        )
    return f'{detector.input_name}:{batch},3,{height},{width}'


def check_batch(detector: FaceDetector, batch: int) -> None:
    """Check that the file can take a batch.

    Raises:
        ValueError: The file cannot take it.
    """
    if batch < 1 or detector.batch_size not in (None, batch):
        limit = '1 or more' if detector.batch_size is None else f'{detector.batch_size} only'
        raise ValueError(
            f'batch {batch}: {detector.path} takes {limit}; tools/deploy/export_onnx.py writes '
            'files for other batches, or dynamic ones'
        )
