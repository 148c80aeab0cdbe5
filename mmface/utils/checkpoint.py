# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Checkpoints from strangers: read without running code, checked against the model."""

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
from typing import Any

import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import nn

from mmface.utils.checkpoint_health import check_checkpoint_file
from mmface.utils.files import whole_file
from mmface.utils.safe_numpy import SafeArray, SafeDType, reconstruct, scalar

#: Keys shown of a list that may be long.
SHOWN_KEYS = 4


def load_checkpoint_file(
    path: str | os.PathLike[str],
    trust: bool = False,
    map_location: str | torch.device | Callable | None = 'cpu',
) -> dict[str, Any]:
    """Read a checkpoint file without running code that may be in it.

    Only tensors, plain Python values, numpy arrays and numbers, and mmengine's log history
    are read. This holds on both mmengine distributions, one of which otherwise falls back
    to full unpickling with a warning.

    Args:
        path: A file written by ``torch.save``.
        trust: Read any Python object. A file then can run any code: only for own files.
        map_location: As for ``torch.load``.

    Returns:
        The content, with the weights under ``state_dict`` even if the file is a bare
        mapping of names to tensors, or has them under ``model`` as detectron2's.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a checkpoint, damaged, cut short, or with objects outside the list above.
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
            raise  # of the disk; a cut zip file seeks in front of its start
        raise ValueError(
            f'{file} is not a checkpoint, or only a part of one (download or copy again): '
            f'{str(error).splitlines()[0] if str(error) else type(error).__name__}'
        ) from error
    # The second name is that of detectron2.
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
            f'possibly under the key state_dict, found {type(weights).__name__}'
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
        path: The file.
        content: See ``load_checkpoint_file``.

    Raises:
        OSError: It cannot be written, for example because the disk is full; names the file.
    """
    # Made in memory: torch hides what the disk says, and ends with an error of its own.
    memory = io.BytesIO()
    torch.save(dict(content), memory)
    with whole_file(path) as tmp:
        tmp.write_bytes(memory.getbuffer())


def load_weights(
    model: nn.Module, checkpoint: Mapping[str, Any], source: str, strict: bool = True
) -> None:
    """Load ``checkpoint['state_dict']`` into ``model``, which has to fit.

    Args:
        model: The bare model, not a data-parallel wrapper.
        checkpoint: Content of a checkpoint, see ``load_checkpoint_file``.
        source: Name of the checkpoint for messages.
        strict: Every parameter and buffer must be there with its shape and nothing
            besides. Otherwise one that fits is enough, and the rest stays as it is.

    Raises:
        ValueError: The weights do not fit; the message shows some keys and their number.
    """
    weights = checkpoint['state_dict']
    metadata = getattr(weights, '_metadata', OrderedDict())
    weights = OrderedDict((re.sub(r'^module\.', '', key), v) for key, v in weights.items())
    weights._metadata = metadata  # type: ignore[attr-defined]
    own = model.state_dict()
    wrong_shape = {k for k, v in weights.items() if k in own and own[k].shape != v.shape}
    shapes = [
        f'{key} ({tuple(weights[key].shape)} in the file, {tuple(own[key].shape)} in the model)'
        for key in sorted(wrong_shape)
    ]
    # A shape that differs stops torch at once; without those keys it lists all others, and
    # hooks of the modules that rename old keys have their say.
    for key in wrong_shape:
        del weights[key]
    result = model.load_state_dict(weights, strict=False)
    missing = [
        key
        for key in result.missing_keys
        if key not in wrong_shape and not key.endswith('num_batches_tracked')
    ]
    unexpected = list(result.unexpected_keys)
    if not (missing or unexpected or shapes):
        return
    problems = [
        f'{len(keys)} {what} ({_some(keys)})'
        for what, keys in (
            ('missing', missing),
            ('not known to the model', unexpected),
            ('of another shape', shapes),
        )
        if keys
    ]
    if strict or len(unexpected) == len(weights):
        raise ValueError(
            f'{source} does not fit the model of this config: of {len(own)} keys '
            f'{"; ".join(problems)}; is it the checkpoint of another config?'
        )


def secure_mmengine_loading(trust: bool = False) -> None:
    """Make everything that loads a checkpoint in this process do it safely.

    mmengine's loader for local files is replaced by ``load_checkpoint_file`` (``load_from``,
    ``resume``, ``init_cfg``), and torch is told to refuse code in all other files, such as
    downloads.

    Args:
        trust: Allow any Python object everywhere instead.
    """
    from mmengine.runner import CheckpointLoader

    # The name up to its 10th character is cut off and the rest logged by mmengine.
    def load_from_local(
        filename: str, map_location: str | torch.device | Callable | None = None
    ) -> dict[str, Any]:
        return load_checkpoint_file(filename, trust=trust, map_location=map_location)

    CheckpointLoader.register_scheme('', load_from_local, force=True)
    os.environ.pop('TORCH_FORCE_WEIGHTS_ONLY_LOAD', None)
    if not trust:
        os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'


def _history_method(owner: type, name: str) -> Callable:
    """Stand in for ``getattr``: a log history refers to its own four methods by it."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError('Unsupported global: GLOBAL builtins.getattr')


def _safe_globals() -> list[Any]:
    """List what a checkpoint of mmengine holds besides tensors and plain values."""
    modules = ('numpy.core.multiarray', 'numpy._core.multiarray')  # renamed by numpy 2
    return [
        HistoryBuffer,
        (_history_method, 'builtins.getattr'),
        (SafeArray, 'numpy.ndarray'),
        (SafeDType, 'numpy.dtype'),
        *((reconstruct, f'{name}._reconstruct') for name in modules),
        *((scalar, f'{name}.scalar') for name in modules),
    ]


def _refusal(file: Path, reason: str) -> str:
    """Say why the unpickler stopped: foreign objects, or no pickle at all."""
    found = re.search(r'GLOBAL (\S+)', reason)
    if found or zipfile.is_zipfile(file):
        name = f' ({found.group(1)})' if found else ''
        return (
            f'{file} holds a Python object{name} that could run code and was not loaded; if you '
            'know where the file comes from, pass --trust-checkpoint'
        )
    return f'{file} is not a checkpoint written by torch.save'


def _some(keys: Sequence[str]) -> str:
    """Join the first few of ``keys``."""
    more = f' and {len(keys) - SHOWN_KEYS} more' if len(keys) > SHOWN_KEYS else ''
    return ', '.join(keys[:SHOWN_KEYS]) + more
