# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Bars that show how far a job is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(iterable: Iterable[Any] | None = None, show: bool = True, **kwargs: Any) -> tqdm:
    """Make a bar on a terminal; a log that is no terminal gets nothing of it.

    Args:
        iterable: What the bar runs over, if it is not moved with ``update``.
        show: Whether there is a bar on a terminal.
        kwargs: Of tqdm, such as ``total``, ``desc`` and ``unit``.
    """
    return tqdm(iterable, disable=None if show else True, **kwargs)
