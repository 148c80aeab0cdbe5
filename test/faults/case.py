# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A fault that runs are put through, and how often they came out well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Outcome:
    """What came out of a case.

    Attributes:
        survived: How many tries ended as they should.
        message: What a user sees, or what was measured; one line.
    """

    survived: int
    message: str


@dataclass
class Case:
    """A fault.

    Attributes:
        fault: What is done to the run, in a few words.
        tries: How often.
        run: Does it in an empty folder of its own.
        quick: Whether it takes seconds and may run in CI.
    """

    fault: str
    tries: int
    run: Callable[[Path], Outcome]
    quick: bool = False
