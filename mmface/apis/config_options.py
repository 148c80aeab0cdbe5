# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find options of a config that nothing reads, such as a key with a typing error."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.registry import Registry
from torch.utils.data import DataLoader

from mmface.utils.config_variables import settings

#: Options of data loaders that are not parameters of PyTorch's class.
LOADER_OPTIONS = ('collate_fn', 'num_batch_per_epoch', 'indices', 'type', '_delete_')
#: Keys that any dict with a type may have.
ANY = ('type', '_scope_', '_delete_', 'init_cfg')
#: Options that the builders of these registries take for themselves.
BUILDER_OPTIONS = {
    'parameter scheduler': ('convert_to_iter_based', 'epoch_length'),
    'optim_wrapper': ('optimizer', 'paramwise_cfg', 'constructor'),
    'hook': ('priority',),
}


def check_options(
    before: Mapping[str, Any], options: Iterable[str], after: Mapping[str, Any]
) -> list[str]:
    """Find keys in options that cannot act, or probably do not.

    Args:
        before: The config without the options.
        options: Dotted keys.
        after: The config with the options.

    Returns:
        One sentence for each key that is new in a dict without a type. Something may read it, or
        it is a typing error.

    Raises:
        ValueError: A key is not a parameter of the class that it is meant for.
    """
    notes = [_check(before, option.split('.'), after) for option in options]
    return [note for note in notes if note]


def _check(old: Any, parts: list[str], new: Any) -> str:
    """Follow a key into the config. Return a note if a part of it is new."""
    for depth, part in enumerate(parts):
        if isinstance(new, (list, tuple)):
            old, new = _item(old, part), _item(new, part)
            continue
        if not isinstance(new, Mapping) or (depth and part in ANY):
            break
        known, open_end = _known_keys(new, parts[:depth])
        if not depth:
            known |= settings()
        have = known | {*(old if isinstance(old, Mapping) else ())}
        nearest = _nearest(part, parts[:depth], have)
        added = _item(new, part)
        if not open_end and part not in known:
            name = new.get('type', parts[depth - 1])
            raise ValueError(
                f'config option {".".join(parts)}: {getattr(name, "__name__", name)} has no '
                f'parameter {part}{nearest}'
            )
        is_new = part not in have and (isinstance(old, Mapping) or not depth)
        typed = 'type' in new if depth else False
        complete = isinstance(added, Mapping) and 'type' in added
        if is_new and (nearest or not typed) and not complete:
            return (
                f'config option {".".join(parts)}: the config has no '
                f'{".".join(parts[: depth + 1])}, so this may change nothing{nearest}'
            )
        old, new = _item(old, part), _item(new, part)
    return ''


def _nearest(part: str, parents: list[str], known: set[str]) -> str:
    names = difflib.get_close_matches(part, sorted(known), n=3, cutoff=0.5)
    keys = ['.'.join([*parents, name]) for name in names]
    return f'; nearest: {", ".join(keys)}' if keys else ''


def _item(value: Any, part: str) -> Any:
    if isinstance(value, (list, tuple)):
        return value[int(part)] if part.isdecimal() and int(part) < len(value) else None
    return value.get(part) if isinstance(value, Mapping) else None


def _known_keys(place: Any, parents: list[str]) -> tuple[set[str], bool]:
    """Return the keys that a dict can have, and whether it can have others, too."""
    if len(parents) == 1 and parents[0].endswith('_dataloader'):
        names = {*inspect.signature(DataLoader.__init__).parameters, *LOADER_OPTIONS}
        return names - {'self'}, False
    known: set[str] = set()
    open_end = True
    for cls, registry in _classes(place.get('type')):
        keys, open_end = parameters(cls)
        known |= {*keys, *BUILDER_OPTIONS.get(registry, ()), *ANY}
        if open_end:
            break
    return known, open_end


def _classes(kind: Any) -> Iterator[tuple[Any, str]]:
    """Iterate over the classes that a type can mean, with the names of their registries."""
    import mmdet.registry as mmdet
    import mmengine.registry as mmengine

    if kind is None:
        return
    if not isinstance(kind, str):
        yield kind, ''
        return
    for module in (mmdet, mmengine):
        for registry in vars(module).values():
            if isinstance(registry, Registry) and kind in registry.module_dict:
                yield registry.module_dict[kind], registry.name


def parameters(cls: Any) -> tuple[set[str], bool]:
    """Return the parameters of a class, also those that it passes on to its parents.

    Returns:
        The names, and whether the class takes others, too.
    """
    names: set[str] = set()
    for parent in cls.__mro__ if inspect.isclass(cls) else ():
        if '__init__' not in vars(parent) or parent is object:
            continue
        found = inspect.signature(vars(parent)['__init__']).parameters.values()
        names |= {item.name for item in found if item.kind is not item.VAR_KEYWORD}
        if not any(item.kind is item.VAR_KEYWORD for item in found):
            return names - {'self'}, False
    return names - {'self'}, True
