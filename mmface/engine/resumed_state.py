# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Checkpoint entries besides weights: they are data, not a program or a location to write to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from mmface.utils.files import is_safe

#: Where a checkpoint may hold the text of a config, which is a Python program. ``Runner.resume``
#: evaluates the first. ``BaseInferencer`` (of mmengine and mmdet, when it is given weights only)
#: evaluates the others, in checkpoints that a resumed run saves.
CONFIG_PLACES = (('meta', 'config'), ('meta', 'cfg'), ('message_hub', 'runtime_info', 'cfg'))
#: Entries of the message hub that name a file which is removed once another replaces it. The
#: keys are the beginnings of the entry names, the values the allowed file names.
#: ``CheckpointHook`` removes the best checkpoint so far, ``PreemptionHook`` that of the last stop.
REMOVABLE = {
    'best_ckpt': re.compile(r'best_.+\.pth'),
    'preemption_ckpt': re.compile(r'iter_\d+\.pth'),
}


def take_config_texts(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Remove the configs from a checkpoint, so that nothing can evaluate them.

    Args:
        checkpoint: Changed in place.

    Returns:
        The texts by the path of their entry, such as 'meta.config'.
    """
    texts = {}
    for *folders, last in CONFIG_PLACES:
        place: Any = checkpoint
        for name in folders:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict) and last in place:
            texts['.'.join((*folders, last))] = str(place.pop(last))
    return texts


def check_training_state(checkpoint: Mapping[str, Any], source: str) -> None:
    """Check the numbers that a resumed run uses for counting.

    Raises:
        ValueError: A number is missing or has another type or range.
    """
    meta = checkpoint['meta'] if isinstance(checkpoint['meta'], dict) else {}
    problems = [
        f'meta.{key}: expected an integer of 0 or more, found {meta.get(key)!r:.60}'
        for key in ('epoch', 'iter')
        if not _is_count(meta.get(key))
    ]
    if meta.get('seed') is not None and not _is_count(meta['seed']):
        problems.append(f'meta.seed: expected an integer of 0 or more, found {meta["seed"]!r:.60}')
    hub = checkpoint['message_hub']
    parts = ('log_scalars', 'runtime_info', 'resumed_keys')
    if not isinstance(hub, dict) or not all(isinstance(hub.get(part), dict) for part in parts):
        problems.append(f'message_hub: expected a dict with {", ".join(parts)}')
    if problems:
        raise ValueError(
            f'{source} is not a checkpoint that a run can be resumed from: {"; ".join(problems)}; '
            'start a new run from its weights with load_from'
        )


def confine_removals(checkpoint: Mapping[str, Any], folders: Iterable[Path]) -> list[str]:
    """Remove the names of files that hooks would delete, unless they belong to the run.

    ``CheckpointHook`` also removes old checkpoints by their number. It takes the numbers from
    the checkpoint, too.

    Args:
        checkpoint: Changed in place.
        folders: Where this run saves checkpoints. A file named by the checkpoint is searched by
            its name only, so that it is found after its folder was moved.

    Returns:
        One sentence for each entry that was removed.
    """
    info = checkpoint['message_hub']['runtime_info']
    forgotten = []
    for key in list(info):
        pattern = next((p for start, p in REMOVABLE.items() if str(key).startswith(start)), None)
        if pattern is None or info[key] is None:
            continue
        name = PurePath(str(info[key])).name
        safe = isinstance(info[key], str) and pattern.fullmatch(name) and is_safe([name])
        own = [folder / name for folder in folders if safe and (folder / name).is_file()]
        if own:
            info[key] = str(own[0])
        else:
            forgotten.append(f'{key} {str(info.pop(key))[:120]!r} is not a file of this run')
    ids = info.get('keep_ckpt_ids', [])
    if not isinstance(ids, (list, tuple)) or not all(map(_is_count, ids)):
        forgotten.append(f'keep_ckpt_ids {str(info.pop("keep_ckpt_ids"))[:120]!r} are not numbers')
    return forgotten


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
