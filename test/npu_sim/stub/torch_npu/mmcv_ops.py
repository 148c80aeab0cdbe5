# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""RoIAlign of mmcv on the simulated device.

An mmcv that was built for NPUs has kernels for some operators, among them ``roi_align``. Here the
kernel of mmcv's CPU build computes it, with copies of the tensors. Its ``nms`` has no such
stand-in, so that the tests see an mmcv without an operator.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import sys

import torch

EXTENSION = 'mmcv._ext'
OPERATORS = ('roi_align_forward', 'roi_align_backward')


def _on_host(function):
    """Return a function that takes tensors of the device, and writes its results into them."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        if all(tensor.device.type == 'cpu' for tensor in tensors):
            return function(*args, **kwargs)
        if any(tensor.device != tensors[0].device for tensor in tensors):
            places = sorted({str(tensor.device) for tensor in tensors})
            raise RuntimeError(f'{function.__name__}: tensors on {" and ".join(places)}')
        copies = [value.cpu() if isinstance(value, torch.Tensor) else value for value in args]
        result = function(*copies, **kwargs)
        for value, copy in zip(args, copies, strict=True):
            if isinstance(value, torch.Tensor):
                value.copy_(copy)
        return result

    return call


def _add_to(extension) -> None:
    for name in OPERATORS:
        setattr(extension, name, _on_host(getattr(extension, name)))


class _Finder(importlib.abc.MetaPathFinder):
    """Add the operators when mmcv's extension is loaded."""

    def find_spec(self, name, path, target=None):
        if name != EXTENSION:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _add_to(module)

            spec.loader.exec_module = exec_module
        return spec


def install() -> None:
    """Add the operators now, or when mmcv's extension is loaded."""
    if EXTENSION in sys.modules:
        _add_to(sys.modules[EXTENSION])
    else:
        sys.meta_path.insert(0, _Finder())
