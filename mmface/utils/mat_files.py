# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read untrusted ``.mat`` files in a child process, because scipy's reader may crash it."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmface.utils.mat_child import MAX_BYTES, MAX_SECONDS

#: SHA-256 of the official ground truth of WIDER FACE: wider_{face,easy,medium,hard}_val.mat.
OFFICIAL = frozenset(
    [
        '1dfe6a9853950f9dde256b5e8bb75d8f272e6bc02a15ae1968f5a9b883f458cb',
        'c2fb672d16f75653eb89fb8bc437a7d060896a71cd7a65c1a5a3e4479024099c',
        '4a031970bc132cef5cfacd05068aabcf4fe15d4a31a1e9f4f00eb134fdf449c1',
        'bb1af19dc5bc4dd9517dd8ae8096326c68175f2c3411763bdd4f23fa98638b78',
    ]
)
#: Larger files are refused without reading. The official ones have 0.4 MB.
_MAX_FILE = 64 << 20


def read_mat_files(files: Mapping[Path, Sequence[str]]) -> list[dict[str, Any]]:
    """Read some fields of MATLAB 5 files.

    The four official files are recognized by their hash and read in this process. All other files
    are read by one child process with limits of memory and time, which takes 0.3 s more.

    Args:
        files: The required fields of each file.

    Returns:
        For each file the fields that exist: cells as object arrays, text as arrays of one string,
        numbers as arrays.

    Raises:
        FileNotFoundError: A file is missing.
        ModuleNotFoundError: scipy is not installed.
        ValueError: A file is not a MATLAB 5 file, contains anything but cells, text and numbers,
            is too large, or crashed the child process.
    """
    if importlib.util.find_spec('scipy') is None:  # the child process would miss it as well
        raise ModuleNotFoundError("No module named 'scipy'", name='scipy')
    strange = [path for path in files if not _is_official(path)]
    answers = dict(zip(strange, _ask_child(strange, files), strict=True)) if strange else {}
    found = []
    for path, fields in files.items():
        if path in answers:
            found.append({key: _decode(value) for key, value in answers[path].items()})
            continue
        # Imported here, because most users of this module's callers never need scipy.
        from scipy.io import loadmat

        content = loadmat(path, variable_names=list(fields))
        found.append({key: content[key] for key in fields if key in content})
    return found


def _is_official(path: Path) -> bool:
    if not path.is_file():
        raise FileNotFoundError(f'{path} is missing or not a file')
    size = path.stat().st_size
    if size > _MAX_FILE:
        raise ValueError(f'{path}: expected a .mat file of at most {_MAX_FILE} bytes, found {size}')
    return hashlib.sha256(path.read_bytes()).hexdigest() in OFFICIAL


def _ask_child(paths: Sequence[Path], files: Mapping[Path, Sequence[str]]) -> list[dict[str, Any]]:
    """Let the child process read files, and return its answers."""
    command = [sys.executable, '-m', 'mmface.utils.mat_child']
    for path in paths:
        command += [os.fspath(path), ','.join(files[path])]
    # Threads of a linear algebra library would use up the address space. Modules are found as here.
    env = {**os.environ, 'OPENBLAS_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1'}
    env['PYTHONPATH'] = os.pathsep.join(str(Path(place).resolve()) for place in sys.path)
    try:
        done = subprocess.run(
            command, capture_output=True, env=env, timeout=4 * MAX_SECONDS, check=False
        )
        lines, status = done.stdout.splitlines(), f'exit status {done.returncode}'
    except subprocess.TimeoutExpired as error:
        lines, status = (error.stdout or b'').splitlines(), f'no answer in {4 * MAX_SECONDS} s'
    answers = []
    for number, path in enumerate(paths):
        try:
            answer = json.loads(lines[number])
        except (IndexError, ValueError):
            raise ValueError(
                f'{path}: the process that read it ended ({status}; limits {MAX_BYTES >> 20} MB '
                f'and {MAX_SECONDS} s): it is damaged or malicious'
            ) from None
        if 'error' in answer:
            raise ValueError(f'{path} is not a MATLAB 5 file ({answer["error"]})')
        answers.append(answer['fields'])
    return answers


def _decode(value: Any) -> Any:
    """Convert a field from the JSON form of ``mat_child`` to arrays."""
    if isinstance(value, str):
        return np.array([value])
    if isinstance(value, dict):
        data = np.frombuffer(base64.b64decode(value['data']), np.dtype(value['dtype']))
        return data.reshape(value['shape'])
    shape, cells = value
    table = np.empty(len(cells), object)
    for number, cell in enumerate(cells):
        table[number] = _decode(cell)
    return table.reshape(shape)
