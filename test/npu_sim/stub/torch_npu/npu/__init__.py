# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""``torch.npu`` of the simulated device."""

from __future__ import annotations

import torch

from torch_npu import _C
from torch_npu.npu import amp, utils
from torch_npu.npu.utils import get_soc_version

#: Options set by ``set_option`` and ``set_compile_mode``, for tests to look at.
options: dict[str, object] = {}
#: How often ``synchronize`` was called.
synchronize_calls = 0


def is_available() -> bool:
    return _C.device_count() > 0


def is_initialized() -> bool:
    return True


def init() -> None:
    pass


def _lazy_init() -> None:
    pass


def _is_in_bad_fork() -> bool:
    return False


def set_compile_mode(jit_compile: bool = False) -> None:
    options['jitCompile'] = 'enable' if jit_compile else 'disable'


def set_option(option: dict) -> None:
    options.update(option)


# ---- devices


def _index(device) -> int:
    """Return the number of a device given as a number, a string, a ``torch.device`` or None."""
    if device is None:
        return _C.current_device()
    if isinstance(device, int):
        return device
    device = torch.device(device)
    if device.type != 'npu':
        raise ValueError(f'Expected an npu device, but got: {device}')
    return _C.current_device() if device.index is None else device.index


def device_count() -> int:
    return _C.device_count()


def current_device() -> int:
    return _C.current_device()


def set_device(device) -> None:
    _C.set_device(_index(device))


def get_device_name(device=None) -> str:
    return 'simulated NPU'


def synchronize(device=None) -> None:
    global synchronize_calls
    synchronize_calls += 1


class device:
    """Context manager that changes the current device."""

    def __init__(self, device) -> None:
        self.index = _index(device)

    def __enter__(self) -> None:
        self.before = _C.current_device()
        _C.set_device(self.index)

    def __exit__(self, *_) -> None:
        _C.set_device(self.before)


# ---- memory: what tensors hold; nothing is cached


def memory_allocated(device=None) -> int:
    return _C.memory_allocated(_index(device))


def max_memory_allocated(device=None) -> int:
    return _C.max_memory_allocated(_index(device))


def reset_peak_memory_stats(device=None) -> None:
    _C.reset_peak_memory(_index(device))


memory_reserved = memory_allocated
max_memory_reserved = max_memory_allocated
reset_max_memory_allocated = reset_peak_memory_stats


def empty_cache() -> None:
    pass


# ---- random numbers: the CPU's generator serves all devices


def manual_seed(seed: int) -> None:
    torch.default_generator.manual_seed(int(seed))


manual_seed_all = manual_seed


def seed() -> int:
    return torch.default_generator.seed()


seed_all = seed


def initial_seed() -> int:
    return torch.default_generator.initial_seed()


def get_rng_state(device='npu') -> torch.Tensor:
    return torch.default_generator.get_state()


def get_rng_state_all() -> list[torch.Tensor]:
    return [get_rng_state()] * device_count()


def set_rng_state(new_state: torch.Tensor, device='npu') -> None:
    torch.default_generator.set_state(new_state)


def set_rng_state_all(new_states: list[torch.Tensor]) -> None:
    set_rng_state(new_states[0])


# ---- precision


def get_amp_supported_dtype() -> list[torch.dtype]:
    return [torch.float16, torch.bfloat16]


def is_bf16_supported() -> bool:
    return True


# ---- streams: everything runs in the calling thread

Stream = torch.Stream
Event = torch.Event


def current_stream(device=None) -> torch.Stream:
    return torch.Stream(torch.device('npu', _index(device)))


default_stream = current_stream


class stream:
    """Context manager that changes the current stream, of which there is one."""

    def __init__(self, stream) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_) -> None:
        pass


# ---- types of tensors, for isinstance


class _TensorType(type):
    def __instancecheck__(cls, instance) -> bool:
        return (
            isinstance(instance, torch.Tensor) and instance.is_npu and instance.dtype == cls.dtype
        )


class BoolTensor(metaclass=_TensorType):
    dtype = torch.bool


class IntTensor(metaclass=_TensorType):
    dtype = torch.int32


class LongTensor(metaclass=_TensorType):
    dtype = torch.int64


class HalfTensor(metaclass=_TensorType):
    dtype = torch.float16


class BFloat16Tensor(metaclass=_TensorType):
    dtype = torch.bfloat16


class FloatTensor(metaclass=_TensorType):
    dtype = torch.float32
