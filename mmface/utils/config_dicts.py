# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Walk through the nested dicts and lists of a config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def as_list(value: Any) -> list[Any]:
    """Return a list, also of the single item that a config may have in its place."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Iterate over all dicts in ``value``, including ``value`` itself."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from dicts(item)
