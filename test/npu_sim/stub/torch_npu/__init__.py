# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A stand-in for tests, NOT Huawei's torch_npu.

Importing it makes the simulated device of ``test/npu_sim`` PyTorch's device ``npu``. It has what
PyTorch, mmengine and mmface call, with the behaviour of torch_npu 2.13 where that bites. The
environment variables: ``NPUSIM_SO``, the library that ``test/npu_sim/build.py`` makes;
``NPUSIM_DEVICES``, the number of devices (2); ``NPUSIM_SOC``, the code of the chip (223, a
910B4; below 220 is the first generation).
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys

import torch

__version__ = '0+sim'
IS_SIMULATED = True


def _load_library():
    path = os.environ.get('NPUSIM_SO')
    if not path:
        raise ImportError(
            'this torch_npu is the simulated one of mmface: set NPUSIM_SO to the library whose '
            'path test/npu_sim/build.py prints'
        )
    name = f'{__name__}.npusim'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return module


_C = _load_library()
torch.utils.rename_privateuse1_backend('npu')

from torch_npu import npu  # noqa: E402

torch._register_device_module('npu', npu)
torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)

from torch_npu import hccl, mmcv_ops, optim, waits  # noqa: E402

mmcv_ops.install()


@atexit.register
def _settle_autograd_threads() -> None:
    """Leave autograd's threads nothing to do for which they need the interpreter.

    Autograd has a thread for every device. It wakes the caller of ``backward`` first and lets go
    of the graph, which holds Python objects, afterwards; if the interpreter is shutting down
    by then, the process aborts.
    """
    _C.set_wait_listener(None)
    _C.settle_autograd_threads()
