# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Open ONNX files with onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime


def open_session(
    path: Path, providers: Sequence[Any] | None = None, threads: int | None = None
) -> onnxruntime.InferenceSession:
    """Open an ONNX file.

    Args:
        path: The file.
        providers: Providers of onnxruntime. Default: the available ones, the fastest first.
        threads: Number of CPU threads. Default: onnxruntime's choice.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not an ONNX file, or onnxruntime cannot run it.
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
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # its exceptions have no other base class
        raise ValueError(
            f'{path}: expected an ONNX file that onnxruntime {onnxruntime.__version__} runs: '
            f'{" ".join(str(error).split())}'
        ) from error
