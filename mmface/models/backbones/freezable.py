# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Backbones whose first stages can be frozen, as in mmdet."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class FreezableBackbone(BaseModule):
    """A backbone with mmdet's options ``frozen_stages`` and ``norm_eval``.

    A subclass calls ``_freeze`` at the end of its ``__init__``, because an optimizer and
    distributed training look at ``requires_grad`` before the first ``train()``.

    Args:
        frozen_stages: The stem (0) and the stages up to this number are not trained, and their
            norms stay in evaluation mode. -1 freezes nothing.
        norm_eval: Whether all batch norms stay in evaluation mode, so that their statistics do
            not change. Their weights are still trained.
        init_cfg: mmengine initialisation.
    """

    def __init__(
        self,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

    def _stages(self) -> Sequence[Sequence[nn.Module]]:
        """Return the modules of the stem and of each stage."""
        raise NotImplementedError

    def _freeze(self) -> None:
        """Freeze the first stages.

        Raises:
            ValueError: ``frozen_stages`` is below -1 or above the number of stages.
        """
        stages = self._stages()
        if not -1 <= self.frozen_stages < len(stages):
            raise ValueError(
                f'frozen_stages of {type(self).__name__} must be -1 (nothing), 0 (the stem) or up '
                f'to {len(stages) - 1}, not {self.frozen_stages}'
            )
        for modules in stages[: self.frozen_stages + 1]:
            for module in modules:
                module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> FreezableBackbone:
        """Set training mode, except for what is frozen."""
        super().train(mode)
        if mode:
            self._freeze()
        for module in self.modules() if mode and self.norm_eval else ():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self
