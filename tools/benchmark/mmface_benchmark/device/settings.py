# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What a section of the device benchmark is given, and where it puts its numbers."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmface.utils.files import write_text


class CheckError(Exception):
    """A measured value shows a fault."""


@dataclass
class Settings:
    """Arguments of a section.

    Attributes:
        device: 'cuda', 'npu' or 'cpu'.
        quick: Whether to use tiny sizes, which show only that everything runs.
        data: Folder of a data set in the layout of WIDER FACE.
        work: Folder for files of all sections.
        out: JSON file of this section.
        found: Numbers of this section so far.
        failed: Names of the parts that failed.
    """

    device: str
    quick: bool
    data: Path
    work: Path
    out: Path
    found: dict[str, Any] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def save(self, name: str, value: Any) -> None:
        """Keep a result, also if a later part of the section fails or is stopped."""
        self.found[name] = value
        write_text(self.out, json.dumps(self.found), sync=False)

    def part(self, name: str, measure: Callable[[], Any]) -> None:
        """Measure and keep a part. If it fails, keep its error and go on with the others."""
        try:
            value = measure()
        except Exception as error:
            self.failed.append(f'{name} ({type(error).__name__}: {error})')
            value = {'error': traceback.format_exc()}
        self.save(name, value)

    def check(self, name: str, key: str, limit: float) -> None:
        """Count a part as failed if a number of it is above a limit."""
        value = self.found[name].get(key, 0.0)
        if not value <= limit:
            self.failed.append(f'{name} ({key} {value:.1e} is above {limit:.1e})')

    def pick(self, full: Any, quick: Any) -> Any:
        """Return the value for a full or a quick run."""
        return quick if self.quick else full

    @property
    def wait(self) -> Callable[[], object]:
        """Return the function that waits for the device."""
        return waiter(self.device)


def waiter(device: str) -> Callable[[], object]:
    """Return the function that waits for a device; on the CPU it does nothing."""
    return getattr(torch, device).synchronize if device != 'cpu' else lambda: None


def pinned(batch: dict, device: str) -> dict:
    """Put the images of a batch in pinned memory, as data loaders do for accelerators."""
    if device == 'cpu':
        return batch
    return {**batch, 'inputs': [image.pin_memory() for image in batch['inputs']]}


def use_exact_floats() -> None:
    """Compute in float32 where the device would use TF32, which has ten bits of mantissa."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
