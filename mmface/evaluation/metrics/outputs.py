# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Files of an evaluation: what cannot be written is said at once and remembered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from mmengine.logging import print_log


class Outputs:
    """Keeps count of what a metric writes.

    A full disk ends neither the training that validates nor the evaluation, whose numbers are in
    the log too. ``tools/test.py`` fails at its end if something is missing.

    Attributes:
        written: Files that were written.
        problems: A sentence for each that was not.
    """

    def __init__(self) -> None:
        self.written: list[Path] = []
        self.problems: list[str] = []

    def write(self, path: Path, writer: Callable[[Path], object], quiet: bool = False) -> bool:
        """Write a file.

        Args:
            path: The file.
            writer: Writes it, whole or not at all.
            quiet: Whether a success is not worth remembering, as that of one among thousands.

        Returns:
            Whether it was written.
        """
        try:
            writer(path)
        except OSError as error:
            self.refuse(f'{path} could not be written: {error.strerror or error}')
            return False
        if not quiet:
            self.written.append(path)
        return True

    def refuse(self, problem: str) -> None:
        """Say and remember why something is not written."""
        self.problems.append(problem)
        print_log(problem, logger='current', level=logging.ERROR)
