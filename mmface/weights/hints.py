# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Hints for users whose model some weights do not fit."""

from __future__ import annotations


def looks_like(variant: object, config: str | None, origin: str | None) -> str:
    """Describe the model that weights look like, as one clause for the end of a message.

    Args:
        variant: Variant of the model.
        config: Name of the config that builds it, if there is one.
        origin: The project whose names the tensors have; ``None`` for mmface.
    """
    text = f'it looks like a {variant}'
    if config:
        text += f', which config {config} builds'
    if origin:
        text += f', with the names of {origin}; tools/weights/convert.py converts it'
    return text
