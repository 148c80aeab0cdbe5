# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What a run writes to the console. Its log file holds everything."""

from __future__ import annotations

import logging

#: Messages for the log file only: long output at the start, and advice that is not for users.
FILE_ONLY = (
    '\n-----',
    'Config:\n',
    'Hooks will be executed',
    '"FileClient"',
    '"HardDiskBackend"',
    'Distributed training is not used',
)


def for_console(record: logging.LogRecord) -> bool:
    """Return whether a message goes to the console, too."""
    return not record.getMessage().startswith(FILE_ONLY)
