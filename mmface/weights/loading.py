# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Load weights and describe the model of weights that do not fit."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from mmface.utils.checkpoint import Misfit, load_weights
from mmface.weights import resnet, scrfd
from mmface.weights.centerface import guess_centerface_variant
from mmface.weights.centernet2 import guess_centernet2_variant
from mmface.weights.hints import looks_like

# Each returns an object with a ``hint``, or ``None`` for weights of other models.
_GUESSERS = (guess_centerface_variant, guess_centernet2_variant, resnet.rename)
#: Children of a detector that are judged separately.
_PART = re.compile(r'backbone|neck|\w*head')
_COUNTER = 'num_batches_tracked'


def variant_hint(state_dict: Mapping[str, Tensor]) -> str | None:
    """Describe the model that weights look like.

    Args:
        state_dict: Weights under mmface's or other projects' names.

    Returns:
        One clause for the end of a message, or ``None`` if the model is unknown.
    """
    if scrfd.is_insightface(state_dict):
        return looks_like('detector of SCRFD', None, 'insightface')
    for guess in _GUESSERS:
        variant = guess(state_dict)
        if variant is not None:
            return variant.hint
    return None


def load_fitting_weights(
    model: nn.Module,
    checkpoint: Mapping[str, Any],
    source: str,
    strict: bool = True,
    allow_partial: bool = False,
) -> None:
    """Load the weights of a checkpoint and check that they fit the model.

    What did not fit is logged: the numbers of keys that are missing, unknown or of another shape,
    and the first names of each. The error also names the model that the weights look like.

    Args:
        model: The bare model, not a data-parallel wrapper, or a part of it, such as a backbone.
        checkpoint: Content of a checkpoint, see ``load_checkpoint_file``.
        source: Name of the checkpoint for messages.
        strict: Whether the file must contain exactly the parameters and buffers of the model,
            with their shapes, as a test needs. Otherwise enough for a training must fit: the
            whole backbone, and at least half of the keys of the neck and of each head. (A head
            for another number of classes differs in a few layers only.) In a model without the
            child ``backbone``, at least half of all keys.
        allow_partial: Without ``strict``: whether one key that fits is enough.

    Raises:
        ValueError: The weights do not fit.
    """
    misfit = load_weights(model, checkpoint)
    if not misfit:
        return
    lost = _lost_parts(model, misfit)
    nothing = len(misfit.unknown) + len(misfit.shapes) == len(checkpoint['state_dict'])
    if strict or nothing or (lost and not allow_partial):
        clauses = [f'{source} does not fit the model of this config: {misfit}']
        if lost and not strict:
            clauses += [f'too little for {", ".join(lost)}']
        clauses += ['does the checkpoint belong to another config?']
        if not (strict or nothing):
            clauses += ['allow_partial=True (command line: --allow-partial) trains all the same']
        raise ValueError(
            '; '.join(filter(None, [*clauses, variant_hint(checkpoint['state_dict'])]))
        )
    print_log(
        f'{source} does not fit completely: {misfit}. Missing parameters keep their initial values',
        logger='current',
        level=logging.WARNING,
    )


def _lost_parts(model: nn.Module, misfit: Misfit) -> list[str]:
    """Return the parts of a model of which too many keys were not loaded."""
    parts = [name for name, _ in model.named_children() if _PART.fullmatch(name)]
    if 'backbone' not in parts:
        parts = ['']
    own, lost = model.state_dict(), []
    absent = [*misfit.missing, *misfit.shapes]
    for part in parts:
        start = f'{part}.' if part else ''
        keys = [key for key in own if key.startswith(start) and not key.endswith(_COUNTER)]
        gone = sum(key.startswith(start) for key in absent)
        if gone * 2 > len(keys) or (gone and part == 'backbone'):
            lost.append(f'{part or "the model"} ({gone} of {len(keys)} keys not loaded)')
    return lost
