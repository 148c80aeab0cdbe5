# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Load weights and describe the model of weights that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmface.utils.checkpoint import load_weights
from mmface.weights import resnet
from mmface.weights.centerface import guess_centerface_variant
from mmface.weights.centernet2 import guess_centernet2_variant

# Each returns an object with a ``hint``, or ``None`` for weights of other models.
_GUESSERS = (guess_centerface_variant, guess_centernet2_variant, resnet.rename)


def variant_hint(state_dict: Mapping[str, Tensor]) -> str | None:
    """Describe the model that weights look like.

    Args:
        state_dict: Weights under mmface's or other projects' names.

    Returns:
        One clause for the end of a message, or ``None`` if the model is unknown.
    """
    for guess in _GUESSERS:
        variant = guess(state_dict)
        if variant is not None:
            return variant.hint
    return None


def load_fitting_weights(
    model: nn.Module, checkpoint: Mapping[str, Any], source: str, strict: bool = True
) -> None:
    """Load weights as ``load_weights`` does; the error also names the model they look like.

    Raises:
        ValueError: The weights do not fit.
    """
    try:
        load_weights(model, checkpoint, source, strict)
    except ValueError as error:
        hint = variant_hint(checkpoint['state_dict'])
        raise ValueError(f'{error}{f"; {hint}" if hint else ""}') from error
