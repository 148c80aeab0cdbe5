# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Files of an evaluation: a write error is logged at once and recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from mmengine.logging import print_log


class Outputs:
    """Record of the files that a metric writes.

    A full disk does not stop the training that validates, nor the evaluation, whose numbers are
    also in the log. ``tools/test.py`` fails at its end if a file is missing.

    Attributes:
        written: Files that were written.
        problems: A sentence for each file that was not written.
    """

    def __init__(self) -> None:
        self.written: list[Path] = []
        self.problems: list[str] = []

    def write(self, path: Path, writer: Callable[[Path], object], quiet: bool = False) -> bool:
        """Write a file.

        Args:
            path: The file.
            writer: Writes the file, completely or not at all.
            quiet: Whether to skip recording a success, for one file among thousands.

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
        """Log and record why a file is not written."""
        self.problems.append(problem)
        print_log(problem, logger='current', level=logging.ERROR)
