# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Initialise a part of a model from a checkpoint, and say what did not fit."""

from __future__ import annotations

from typing import Any

from mmdet.registry import WEIGHT_INITIALIZERS
from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.model.weight_init import update_init_info
from mmengine.runner.checkpoint import _load_checkpoint
from torch import nn

from mmface.weights.loading import load_fitting_weights


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class CheckedPretrainedInit(PretrainedInit):
    """``Pretrained`` of mmengine, with the report and the errors of ``load_fitting_weights``.

    Only the keys of the module itself count, so a file with a classifier or a whole detector
    fits a backbone.

    Args:
        checkpoint: A path, or any address that mmengine supports.
        prefix: Only keys that begin with this are loaded, without it; such as ``'backbone.'``.
        map_location: As for ``torch.load``.
        allow_partial: Whether one key that fits is enough, instead of half of the module.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: Any = 'cpu',
        allow_partial: bool = False,
    ) -> None:
        super().__init__(checkpoint, prefix, map_location)
        self.allow_partial = allow_partial

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into ``module``.

        Raises:
            ValueError: No key begins with the prefix, or the weights do not fit.
        """
        content = _load_checkpoint(self.checkpoint, map_location=self.map_location)
        weights = content.get('state_dict', content)
        if self.prefix is not None:
            start = f'{self.prefix.rstrip(".")}.'
            chosen = {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}
            if not chosen:
                raise ValueError(
                    f'{self.checkpoint}: none of its {len(weights)} keys begins with '
                    f"prefix='{start}' of init_cfg; the first is {next(iter(weights), None)}"
                )
            weights = chosen
        source = f'{self.checkpoint} (init_cfg of {type(module).__name__})'
        load_fitting_weights(
            module,
            {'state_dict': weights},
            source,
            strict=False,
            allow_partial=self.allow_partial,
        )
        print_log(f'loaded {source}', logger='current')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())
