# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Untrusted checkpoints: read them without running code, and check them against the model."""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import nn

from mmface.utils.checkpoint_health import check_checkpoint_file
from mmface.utils.files import whole_file
from mmface.utils.safe_numpy import SafeArray, SafeDType, reconstruct, scalar

#: Number of keys that messages show of a long list.
SHOWN_KEYS = 4


def load_checkpoint_file(
    path: str | os.PathLike[str],
    trust: bool = False,
    map_location: str | torch.device | Callable | None = 'cpu',
) -> dict[str, Any]:
    """Read a checkpoint file without running code that it may contain.

    Only tensors, plain Python values, numpy arrays and numbers, and mmengine's log history
    are read. This holds for both mmengine distributions. One of them would otherwise fall back
    to full unpickling with a warning.

    Args:
        path: A file written by ``torch.save``.
        trust: Whether to read any Python object. The file can then run any code: use it only for
            your own files.
        map_location: See ``torch.load``.

    Returns:
        The content, with the weights under ``state_dict``. This holds even if the file is only a
        mapping of names to tensors, or has them under ``model`` like detectron2.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a checkpoint, is damaged or truncated, or contains other
            objects than those listed above.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f'checkpoint {file} does not exist or is not a file')
    check_checkpoint_file(file)
    try:
        if trust:
            content = torch.load(file, map_location=map_location, weights_only=False)
        else:
            with torch.serialization.safe_globals(_safe_globals()):
                content = torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_refusal(file, str(error))) from error
    except Exception as error:  # whatever the bytes of a damaged file make of it
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # a disk error; in a truncated zip file, a seek before its start is EINVAL
        raise ValueError(
            f'{file} is not a checkpoint, or is incomplete (download or copy it again): '
            f'{str(error).splitlines()[0] if str(error) else type(error).__name__}'
        ) from error
    # detectron2 uses the second name.
    for key in ('state_dict', 'model'):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            weights = content[key]
            content = {**content, 'state_dict': weights}
            break
    else:
        weights = content
        content = {'state_dict': weights}
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(
            f'{file} is not a checkpoint: expected a mapping of parameter names to tensors, '
            f'optionally under the key state_dict, found {type(weights).__name__}'
        )
    alien = [key for key, value in weights.items() if not isinstance(value, torch.Tensor)]
    if alien:
        raise ValueError(
            f'{file} is not a checkpoint: {_some(alien)} of its {len(weights)} entries are not '
            f'tensors ({type(weights[alien[0]]).__name__})'
        )
    return dict(content)


def save_checkpoint_file(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: Path of the file.
        content: See ``load_checkpoint_file``.

    Raises:
        OSError: The file cannot be written, for example because the disk is full. The message
            names the file.
    """
    # Serialized in memory first: torch hides disk errors and raises an error of its own.
    memory = io.BytesIO()
    torch.save(dict(content), memory)
    with whole_file(path) as tmp:
        tmp.write_bytes(memory.getbuffer())


class Misfit(NamedTuple):
    """Keys of a model and of a file that did not fit. It is false if everything fitted.

    Attributes:
        total: Number of keys of the model.
        missing: Keys of the model that the file lacks. Counters of batches are not listed.
        unknown: Keys of the file that the model does not have.
        shapes: Keys whose shapes differ, with both shapes.
    """

    total: int
    missing: list[str]
    unknown: list[str]
    shapes: dict[str, str]

    def __bool__(self) -> bool:
        """Return whether any key did not fit."""
        return bool(self.missing or self.unknown or self.shapes)

    def __str__(self) -> str:
        """Return the numbers of keys and the first names of each kind."""
        shapes = [f'{key} ({text})' for key, text in self.shapes.items()]
        problems = [
            f'{len(keys)} {what} ({_some(keys)})'
            for what, keys in (
                ('missing', self.missing),
                ('not known to the model', self.unknown),
                ('of another shape', shapes),
            )
            if keys
        ]
        return f'of {self.total} keys {"; ".join(problems)}'


def load_weights(model: nn.Module, checkpoint: Mapping[str, Any]) -> Misfit:
    """Load what fits of ``checkpoint['state_dict']`` into ``model``.

    See :func:`mmface.weights.loading.load_fitting_weights`, which says what may be missing.

    Args:
        model: The bare model, not a data-parallel wrapper.
        checkpoint: Content of a checkpoint, see ``load_checkpoint_file``. A leading ``module.``
            is removed from its keys.

    Returns:
        What did not fit. These parameters of the model keep their values.
    """
    weights = checkpoint['state_dict']
    metadata = getattr(weights, '_metadata', OrderedDict())
    weights = OrderedDict((re.sub(r'^module\.', '', key), v) for key, v in weights.items())
    weights._metadata = metadata  # type: ignore[attr-defined]
    own = model.state_dict()
    shapes = {
        key: f'{tuple(weights[key].shape)} in the file, {tuple(own[key].shape)} in the model'
        for key in sorted(weights)
        if key in own and own[key].shape != weights[key].shape
    }
    # torch stops at once at a wrong shape. Without those keys it lists all other keys, and the
    # hooks of modules that rename old keys are called.
    for key in shapes:
        del weights[key]
    result = model.load_state_dict(weights, strict=False)
    missing = [
        key
        for key in result.missing_keys
        if key not in shapes and not key.endswith('num_batches_tracked')
    ]
    return Misfit(len(own), missing, list(result.unexpected_keys), shapes)


def secure_mmengine_loading(trust: bool = False) -> None:
    """Make every function that loads a checkpoint in this process do so safely.

    ``load_checkpoint_file`` replaces mmengine's loader for local files (``load_from``,
    ``resume``, ``init_cfg``). torch is set to refuse code in all other files, such as
    downloads.

    Args:
        trust: Whether to allow any Python object everywhere instead, until the next call.
    """
    from mmengine.runner import CheckpointLoader

    # mmengine drops the first 10 characters of this name and logs the rest.
    def load_from_local(
        filename: str, map_location: str | torch.device | Callable | None = None
    ) -> dict[str, Any]:
        return load_checkpoint_file(filename, trust=trust, map_location=map_location)

    CheckpointLoader.register_scheme('', load_from_local, force=True)
    os.environ.pop('TORCH_FORCE_WEIGHTS_ONLY_LOAD', None)
    if not trust:
        os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'


def _history_method(owner: type, name: str) -> Callable:
    """Replace ``getattr``, with which a log history refers to its own four methods."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError('Unsupported global: GLOBAL builtins.getattr')


def _safe_globals() -> list[Any]:
    """List the types that an mmengine checkpoint contains besides tensors and plain values."""
    modules = ('numpy.core.multiarray', 'numpy._core.multiarray')  # numpy 2 renamed it
    return [
        HistoryBuffer,
        (_history_method, 'builtins.getattr'),
        (SafeArray, 'numpy.ndarray'),
        (SafeDType, 'numpy.dtype'),
        *((reconstruct, f'{name}._reconstruct') for name in modules),
        *((scalar, f'{name}.scalar') for name in modules),
    ]


def _refusal(file: Path, reason: str) -> str:
    """Return why the unpickler stopped: unknown objects, or the file is not a pickle."""
    found = re.search(r'GLOBAL (\S+)', reason)
    if found or zipfile.is_zipfile(file):
        name = f' ({found.group(1)})' if found else ''
        return (
            f'{file} contains a Python object{name} that could run code and was not loaded; if you '
            'trust the source of the file, pass trust=True (command line: --trust-checkpoint)'
        )
    return f'{file} is not a checkpoint written by torch.save'


def _some(keys: Sequence[str]) -> str:
    """Join the first few of ``keys``."""
    more = f' and {len(keys) - SHOWN_KEYS} more' if len(keys) > SHOWN_KEYS else ''
    return ', '.join(keys[:SHOWN_KEYS]) + more
