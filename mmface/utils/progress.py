# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Progress bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(iterable: Iterable[Any] | None = None, show: bool = True, **kwargs: Any) -> tqdm:
    """Build a progress bar. It is shown only on a terminal, not in a log.

    Args:
        iterable: The items to iterate over, unless the bar is advanced with ``update``.
        show: Whether to show a bar on a terminal.
        kwargs: Arguments of tqdm, such as ``total``, ``desc`` and ``unit``.
    """
    return tqdm(iterable, disable=None if show else True, **kwargs)
