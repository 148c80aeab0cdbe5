# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Automatic mixed precision on every device."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(AmpOptimWrapper):
    """mmengine's ``AmpOptimWrapper``, with bfloat16 autocast on the CPU.

    mmengine refuses the CPU. There, autocast supports only bfloat16. Its exponent range is
    that of float32, so no loss scale is needed; ``loss_scale`` and ``dtype`` are ignored.

    Args:
        loss_scale: 'dynamic', a number for a static scale, or arguments of ``GradScaler``.
        dtype: 'float16' or 'bfloat16'; None is the device's default.
        kwargs: Arguments of ``OptimWrapper``.
    """

    def __init__(
        self,
        loss_scale: str | float | dict[str, Any] = 'dynamic',
        dtype: str | torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize the wrapper; see the class for the arguments."""
        if get_device() != 'cpu':
            # mmengine accepts a float but not an int.
            scale = float(loss_scale) if isinstance(loss_scale, int) else loss_scale
            super().__init__(loss_scale=scale, dtype=dtype, **kwargs)
            return
        OptimWrapper.__init__(self, **kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
        self._scale_update_param = None
        self.cast_dtype = torch.bfloat16
