# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""How much of the time a device works, from the intervals of its kernels."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from mmface_benchmark.device.settings import waiter

# Categories of torch.profiler's trace. A CPU, and an NPU whose profiler is a separate one, have
# only operators.
_KERNELS = {'cuda': {'kernel', 'gpu_memcpy', 'gpu_memset'}}
_OPERATORS = {'cpu_op'}


def merged_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the seconds that intervals (start, end) cover together; overlaps count once."""
    total, until = 0.0, float('-inf')
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


class BusyTimer:
    """Measures how long the device works while the timer runs.

    ``with BusyTimer('cuda') as timer: ...`` or ``start`` and ``stop``.

    Attributes:
        wall: Seconds from start to stop; the device is idle at both.
        busy: Seconds in which at least one kernel or copy ran. On a CPU, one operator.
        launches: Number of kernels and copies.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.wall = self.busy = 0.0
        self.launches = 0
        self._wait = waiter(device)
        activity = ProfilerActivity.CUDA if device == 'cuda' else ProfilerActivity.CPU
        self._profiler = torch.profiler.profile(activities=[activity])
        self._since = 0.0

    def start(self) -> None:
        """Start to measure."""
        self._wait()
        self._profiler.start()
        self._wait()
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Wait for the device and read the trace."""
        self._wait()
        self.wall = time.perf_counter() - self._since
        self._profiler.stop()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / 'trace.json'
            self._profiler.export_chrome_trace(str(file))
            events = json.loads(file.read_text(encoding='utf-8', errors='replace'))['traceEvents']
        spans = intervals(events, _KERNELS.get(self.device, _OPERATORS))
        self.launches = len(spans)
        self.busy = merged_seconds(spans)

    def __enter__(self) -> BusyTimer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.stop()


def intervals(events: Iterable[dict[str, Any]], categories: set[str]) -> list[tuple[float, float]]:
    """Return start and end in seconds of the events of these categories in a Chrome trace."""
    return [
        (1e-6 * event['ts'], 1e-6 * (event['ts'] + event['dur']))
        for event in events
        if event.get('ph') == 'X' and event.get('cat') in categories
    ]
