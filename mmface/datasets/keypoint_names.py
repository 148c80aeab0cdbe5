# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What the names of keypoints in a label file say: which are left and right, and their order."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmface.structures import FIVE_KEYPOINTS, KeypointScheme

_MIRROR = {'left': 'right', 'right': 'left', 'l': 'r', 'r': 'l'}
_EMPTY = {'corner', 'tip', 'center', 'centre', 'point', 'of', 'the', 'face'}


def scheme_of_names(source: str, names: Sequence[str]) -> tuple[KeypointScheme, list[int], str]:
    """Return the keypoints that some names describe.

    The five standard points are recognised in any order and in common spellings
    (``mouth_left``, ``leftEye``, ``nose_tip``). They come back in the standard order. Other
    points keep their order. ``left`` and ``right`` (``l`` and ``r``) tell which points change
    places when the image is flipped.

    Args:
        source: Name of the file, for messages.
        names: One name for each point.

    Returns:
        The keypoints; for each of them its position in ``names``; and a note, empty if there is
        nothing to say.

    Raises:
        ValueError: A name occurs twice.
    """
    words = [_words(name) for name in names]
    places = {word: place for place, word in enumerate(words)}
    if len(places) < len(words):
        again = next(name for k, name in enumerate(names) if places[words[k]] != k)
        raise ValueError(
            f'{source}: expected keypoints with different names, found {again!r} twice'
        )
    meaning = [frozenset(word) - _EMPTY for word in words]
    five = [frozenset(_words(name)) for name in FIVE_KEYPOINTS.names]
    if len(names) == len(five) and set(meaning) == set(five):
        order = [meaning.index(point) for point in five]
        if order == sorted(order):
            return FIVE_KEYPOINTS, order, ''
        note = f'{source}: its keypoints are {", ".join(names)}; they are put in the order '
        return FIVE_KEYPOINTS, order, f'{note}{", ".join(FIVE_KEYPOINTS.names)}'
    flip = [places.get(tuple(_MIRROR.get(w, w) for w in word), k) for k, word in enumerate(words)]
    alone = [n for k, n in enumerate(names) if flip[k] == k and _MIRROR.keys() & {*words[k]}]
    note = f'{source}: no keypoint is the other side of {alone[0]!r}' if alone else ''
    return KeypointScheme(tuple(names), tuple(flip)), list(range(len(names))), note


def unnamed_scheme(source: str, count: int) -> tuple[KeypointScheme, str]:
    """Return K keypoints without names: five are the standard ones.

    Returns:
        The keypoints, and a note if it is not known which of them are left and right.
    """
    if count in (0, len(FIVE_KEYPOINTS)):
        return (FIVE_KEYPOINTS if count else KeypointScheme()), ''
    note = (
        f'{source}: {count} keypoints without names, so left and right are not known: state '
        'flip_indices in the config, or train without flips'
    )
    return KeypointScheme((), tuple(range(count))), note


def _words(name: str) -> tuple[str, ...]:
    """Split a name: ``leftEye``, ``left-eye`` and ``lefteye`` are (left, eye)."""
    spaced = re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', name).lower()
    spaced = re.sub(r'(left|right)', r' \1 ', spaced)
    return tuple(re.findall(r'[^\W_]+', spaced)) or (name,)
