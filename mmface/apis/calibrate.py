# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Restore the statistics of folded batch norms from a folder of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor

from mmface.apis.config import load_config
from mmface.apis.image_pipeline import image_pipeline
from mmface.utils.checkpoint import load_weights
from mmface.utils.find_images import find_images
from mmface.utils.images import read_image
from mmface.weights.folded_norms import NUM_IMAGES, folded_names, restore_statistics


def calibrate(
    state_dict: Mapping[str, Tensor], config: Path, folder: str | os.PathLike[str]
) -> tuple[dict[str, Tensor], int]:
    """Restore the statistics of the folded norms of a model.

    Args:
        state_dict: Weights that fit the config's model, or its backbone. Not changed.
        config: The config. Images pass through its test pipeline.
        folder: Images, searched recursively. If there are more than ``NUM_IMAGES``, that many
            are used, spread evenly over the sorted names.

    Returns:
        The weights, and the number of images, which is 0 if no norm is folded.

    Raises:
        FileNotFoundError: The folder contains no image.
        ValueError: An image cannot be read, or a folded norm is not part of the network.
    """
    names = folded_names(state_dict)
    if not names:
        return dict(state_dict), 0
    cfg = load_config(str(config))
    model = MODELS.build(cfg.model)
    load_weights(model, {'state_dict': state_dict})
    paths = list(find_images(folder).values())
    count = min(len(paths), NUM_IMAGES)
    chosen = [paths[i * len(paths) // count] for i in range(count)]
    left = restore_statistics(model, names, _batches(model, cfg, chosen))
    if left:
        raise ValueError(f'{len(left)} folded norms get no input, the first is {left[0]}')
    restored = model.state_dict()
    return {key: restored[key] for key in state_dict}, count


def _batches(model: Any, cfg: Config, paths: Sequence[Path]) -> Iterator[Any]:
    """Yield preprocessed batches of one image, because sizes may differ."""
    pipeline = image_pipeline(cfg)
    for path in paths:
        yield model.data_preprocessor(pseudo_collate([pipeline(dict(img=read_image(path)))]))
