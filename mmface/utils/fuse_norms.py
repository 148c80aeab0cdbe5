# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Fold the batch norms of a model into its convolutions, after a check that this is right."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

#: Side of the check's image, a multiple of all strides.
_SIDE = 128
#: Largest difference of the outputs in float64, relative to the largest value of each.
_TOLERANCE = 1e-6


def fuse_norms(model: nn.Module) -> bool:
    """Fold batch norms into convolutions if the outputs stay the same.

    mmcv folds a norm into the convolution that is registered before it in the same module, without
    looking at how the two are used. That is wrong if something is computed between them, if the
    convolution has another reader or another norm, or if they belong to different branches. So
    both are run on one image of noise before, in float64 on the CPU. If they differ, the model
    stays as it is, and a warning names the first norm that cannot be folded.

    Args:
        model: A detector, or a module that takes images. Changed in place. Norms of a second stage
            (``roi_head``), whose inputs depend on the first one's results, are left alone.

    Returns:
        Whether the norms were folded.
    """
    model = _unwrapped(model)
    pairs = list(_pairs(model))
    if not pairs:
        return False
    trial = copy.deepcopy(model).cpu().double().eval()
    try:
        before = _outputs(trial)
        for pair in pairs:
            pair.fold(trial)
        same = _agree(before, _outputs(trial))
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        print_log(f'batch norms are not folded: {error}', 'current', logging.WARNING)
        return False
    if same:
        for pair in pairs:
            pair.fold(model)
        return True
    wrong = next((pair for pair in pairs if not _is_right(model, pair, before)), pairs[0])
    print_log(
        f'batch norms are not folded: with {wrong.norm_path} folded into {wrong.conv_path} the '
        'outputs would differ',
        'current',
        logging.WARNING,
    )
    return False


class _Pair(NamedTuple):
    """A norm and the convolution that is registered before it.

    Attributes:
        parent: Path of the module that contains both.
        conv: Name of the convolution in it.
        norm: Name of the norm in it.
    """

    parent: str
    conv: str
    norm: str

    @property
    def conv_path(self) -> str:
        return f'{self.parent}.{self.conv}'.lstrip('.')

    @property
    def norm_path(self) -> str:
        return f'{self.parent}.{self.norm}'.lstrip('.')

    def fold(self, model: nn.Module) -> None:
        """Fold the norm into the weights of the convolution, which is changed in place."""
        parent = model.get_submodule(self.parent)
        fuse_conv_bn(nn.Sequential(getattr(parent, self.conv), getattr(parent, self.norm)))
        setattr(parent, self.norm, nn.Identity())


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside of wrappers for several cards or augmented tests."""
    while isinstance(getattr(model, 'module', None), nn.Module):
        model = cast(nn.Module, model.module)
    return model


def _pairs(model: nn.Module) -> Iterator[_Pair]:
    """List the norms behind convolutions in the order of registration, as mmcv does."""
    for path, parent in model.named_modules():
        if path.partition('.')[0] == 'roi_head':
            continue
        conv = None
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and conv is not None:
                yield _Pair(path, conv, name)
                conv = None
            elif isinstance(child, (nn.Conv2d, nn.ConvTranspose2d)):
                conv = name if isinstance(child, nn.Conv2d) else None


@torch.no_grad()
def _outputs(model: Any) -> list[Tensor]:
    """Run a detector up to its first head, or any other module, on one image of noise."""
    image = torch.randn(1, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0)).double()
    if hasattr(model, 'extract_feat'):
        head = model.rpn_head if hasattr(model, 'roi_head') else model.bbox_head
        found = head(model.extract_feat(image))
    else:
        found = model(image)
    return [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]


def _agree(before: Sequence[Tensor], after: Sequence[Tensor]) -> bool:
    # A comparison with NaN is false.
    return all(
        bool((left - right).abs().max() <= _TOLERANCE * left.abs().max())
        for left, right in zip(before, after, strict=True)
    )


def _is_right(model: nn.Module, pair: _Pair, before: Sequence[Tensor]) -> bool:
    """Return whether the outputs stay the same if only this norm is folded."""
    trial = copy.deepcopy(model).cpu().double().eval()
    pair.fold(trial)
    return _agree(before, _outputs(trial))
