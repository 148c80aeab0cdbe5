# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A fault, and the number of runs that survived it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Outcome:
    """Result of a case.

    Attributes:
        survived: Number of tries that ended as they should.
        message: The message for the user, or what was measured; one line.
    """

    survived: int
    message: str


@dataclass
class Case:
    """A fault.

    Attributes:
        fault: Short description of what is done to the run.
        tries: Number of tries.
        run: Function that runs all tries in an empty folder.
        quick: Whether it takes only seconds and may run in CI.
    """

    fault: str
    tries: int
    run: Callable[[Path], Outcome]
    quick: bool = False
