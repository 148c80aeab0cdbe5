# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The child process of :mod:`mmface.utils.mat_files`. Reads with scipy, prints JSON lines.

Usage: python -m mmface.utils.mat_child FILE FIELD,FIELD [FILE FIELD,FIELD ...]
"""

from __future__ import annotations

import base64
import json
import resource
import sys
from typing import Any

import numpy as np

#: Limits for address space and processor time. The official files take 0.2 GB and 0.3 s.
MAX_BYTES = 1 << 30
MAX_SECONDS = 60
#: Content of all fields together. The official files have 2 MB.
MAX_CONTENT = 128 << 20
#: Bytes counted per cell, text or table in addition to its content.
_ENTRY = 64


def read_fields(path: str, fields: list[str]) -> dict[str, Any]:
    """Read some fields of a ``.mat`` file into a form that JSON can represent.

    Returns:
        The fields that exist in the file. A cell becomes ``[shape, cells]``, text a string, a
        table of numbers ``{'shape', 'dtype', 'data'}`` with the bytes in base64.

    Raises:
        Exception: Any exception of scipy. The process may also crash.
    """
    # Imported here, so that the limits apply to the import too.
    from scipy.io import loadmat

    content = loadmat(path, variable_names=fields)
    left = [MAX_CONTENT]
    return {field: _encode(content[field], left) for field in fields if field in content}


def _encode(value: Any, left: list[int]) -> Any:
    array = np.asarray(value)
    left[0] -= _ENTRY + array.nbytes
    if left[0] < 0:
        raise ValueError(f'its fields hold more than {MAX_CONTENT} bytes')
    if array.dtype == object and array.dtype.names is None:
        return [array.shape, [_encode(cell, left) for cell in array.ravel()]]
    if array.dtype.kind == 'U' and array.size <= 1:
        return ''.join(array.ravel().tolist())
    if array.dtype.kind not in 'biuf':
        raise ValueError(f'it holds a field of {array.dtype}, neither cells, text nor numbers')
    data = base64.b64encode(array.tobytes()).decode()
    return {'shape': array.shape, 'dtype': array.dtype.str, 'data': data}


def main() -> None:
    """Print one line for each file."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for path, fields in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        try:
            answer: dict[str, Any] = {'fields': read_fields(path, fields.split(','))}
        except Exception as error:  # scipy raises its own, struct's, zlib's and numpy's errors
            answer = {'error': f'{type(error).__name__}: {error}'[:400]}
        sys.stdout.write(json.dumps(answer) + '\n')
        sys.stdout.flush()


if __name__ == '__main__':
    main()
