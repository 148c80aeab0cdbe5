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
        providers: Of onnxruntime; default those that are there, the fastest first.
        threads: Threads on the CPU; default onnxruntime's choice.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no ONNX file, or one that onnxruntime cannot run.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path}: there is no such file; expected an ONNX file')
    available = onnxruntime.get_available_providers()
    if providers is None:
        # Azure's sends images to a service, and must be asked for.
        providers = [name for name in available if name != 'AzureExecutionProvider']
    unknown = [p for p in providers if (p if isinstance(p, str) else p[0]) not in available]
    if unknown:
        raise ValueError(
            f'providers {unknown}: this onnxruntime has {", ".join(available)}; install the '
            'onnxruntime of that device'
        )
    options = onnxruntime.SessionOptions()
    # Old exports declare output sizes that hold for one input size only, and every run with
    # another one would warn.
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # its exceptions have no base class but this one
        raise ValueError(
            f'{path}: expected an ONNX file that onnxruntime {onnxruntime.__version__} runs: '
            f'{" ".join(str(error).split())}'
        ) from error
