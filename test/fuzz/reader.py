# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A reader of untrusted files, for the fuzzer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mutate import mutate_bytes


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        name: Name for the table and the command line.
        file: Name of the file that is damaged, possibly within a folder.
        seeds: Makes valid files; its argument is an empty folder.
        read: Reads the file; its argument is the folder of the file.
        mutate: Damages one of the seeds.
        named: Whether an error must name the file.
        guarded: Whether the package runs it in a child process, so that a crash is an error too.
    """

    name: str
    file: str
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[Path], object]
    mutate: Callable[..., bytes] = mutate_bytes
    named: bool = True
    guarded: bool = False
