# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Who makes the host wait for the device."""

from __future__ import annotations

import sys
from collections import Counter
from typing import NamedTuple

from torch_npu import _C

#: Packages whose frames only pass on what their caller wanted.
_PASSING = {'torch', 'torch_npu', *sys.stdlib_module_names} - {'__main__'}


class Wait(NamedTuple):
    """One kind of wait from one place.

    Attributes:
        kind: 'copy' (device to host), 'item' (a value read), 'upload' (host to device from memory
            that is not pinned), or the operator whose shape depends on values.
        package: Top-level package of the code that caused it: the innermost frame that is not
            PyTorch's or Python's own. 'autograd' on autograd's threads, 'torch' on
            others without such a frame.
        place: Module, line and function there; empty where there is none.
        via: Module of the innermost frame, where that is another one: which part of PyTorch it
            was that ``place`` called.
    """

    kind: str
    package: str
    place: str
    via: str


def _caller() -> tuple[str, str, str]:
    frame = sys._getframe(1).f_back  # none above ours on a thread of C++
    via = ''
    while frame is not None:
        module = frame.f_globals.get('__name__', '?')
        package = module.partition('.')[0]
        if package not in _PASSING:
            return package, f'{module}:{frame.f_lineno} {frame.f_code.co_name}', via
        via = via or module
        frame = frame.f_back
    return ('torch' if via else 'autograd'), '', via


class record_waits:
    """Collect the waits of all threads while the context lasts.

    One can be active at a time.

    Example:
        >>> with record_waits() as waits:
        ...     torch.ones(3, device='npu').sum().item()
        >>> waits.counts
        Counter({Wait(kind='item', package='__main__', place='__main__:2 <module>', via=''): 1})
    """

    def __enter__(self) -> record_waits:
        self.counts: Counter[Wait] = Counter()
        _C.set_wait_listener(self._note)
        return self

    def __exit__(self, *_) -> None:
        _C.set_wait_listener(None)

    def _note(self, kind: str) -> None:
        self.counts[Wait(kind, *_caller())] += 1
