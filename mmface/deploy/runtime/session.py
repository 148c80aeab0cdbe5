# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Open ONNX files with onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime


def open_session(
    path: Path,
    providers: Sequence[Any] | None = None,
    threads: int | None = None,
    free: bool = False,
) -> onnxruntime.InferenceSession:
    """Open an ONNX file. Files of old exporters are repaired in memory first.

    Args:
        path: The file.
        providers: Providers of onnxruntime. Default: the available ones, the fastest first.
        threads: Number of CPU threads. Default: onnxruntime's choice.
        free: Whether to make the batch and the sides of the input dynamic.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an ONNX file, onnxruntime cannot run it, or an operator fixes
            the sides that are to be free.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist; expected an ONNX file')
    available = onnxruntime.get_available_providers()
    if providers is None:
        # Azure's provider sends images to a service, so it is only used on request.
        providers = [name for name in available if name != 'AzureExecutionProvider']
    unknown = [p for p in providers if (p if isinstance(p, str) else p[0]) not in available]
    if unknown:
        raise ValueError(
            f'providers {unknown}: this onnxruntime has {", ".join(available)}; install the '
            'onnxruntime of that device'
        )
    options = onnxruntime.SessionOptions()
    # Old exports declare output sizes that are valid for one input size only. Every run with
    # another size would print a warning.
    options.log_severity_level = 3
    # A plan of the memory for each size of input would be kept. With images of many sizes in 16
    # threads, CenterFace then takes 6.3 GB in place of 3.6; the time is the same.
    options.enable_mem_pattern = False
    if threads is not None:
        options.intra_op_num_threads = threads
    session = None if free else _start(path, str(path), options, providers)
    # Weights among the inputs: a session of that file takes about twice the time.
    if session is None or session.get_overridable_initializers():
        session = _start(path, _repaired(path, free), options, providers)
    return session


def _start(
    path: Path,
    source: str | bytes,
    options: onnxruntime.SessionOptions,
    providers: Sequence[Any],
) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(source, options, providers=list(providers))
    except Exception as error:  # its exceptions have no other base class
        raise ValueError(
            f'{path}: expected an ONNX file that onnxruntime {onnxruntime.__version__} runs: '
            f'{" ".join(str(error).split())}'
        ) from error


def _repaired(path: Path, free: bool) -> bytes:
    # The package onnx is only needed for old files.
    from mmface.weights.onnx_repair import free_sides, load_onnx, repair

    model = repair(load_onnx(path))
    obstacle = free_sides(model) if free else ''
    if obstacle:
        sides = [str(side.dim_value) for side in model.graph.input[0].type.tensor_type.shape.dim]
        raise ValueError(
            f'{path}: the input is fixed to {"x".join(sides[2:])}, and {obstacle} needs that: do '
            'not set the size, or use a dynamic export'
        )
    return model.SerializeToString()
