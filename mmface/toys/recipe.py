# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What a drawn data set was made from, so that an outdated one is drawn again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import cv2


def describe_recipe(sources: Iterable[Path], **arguments: object) -> str:
    """Return the arguments and a hash of the drawing code as JSON.

    Args:
        sources: Files of the drawing code.
        **arguments: Arguments of the drawing function.
    """
    code = hashlib.sha256()
    for source in sources:
        code.update(source.read_bytes())
    return json.dumps({**arguments, 'opencv': cv2.__version__, 'code': code.hexdigest()}, indent=1)
