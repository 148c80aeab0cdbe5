# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Recognise other projects' weights and turn them into mmface checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmface.utils.checkpoint import load_checkpoint_file, load_weights
from mmface.weights import scrfd
from mmface.weights.onnx_convs import read_onnx


class Converted(NamedTuple):
    """Weights that fit a config.

    Attributes:
        state_dict: Every key of the config's model, nothing else.
        config: The config they fit.
        source: What kind of file they came from.
        dropped: Keys of the source that no model uses.
    """

    state_dict: dict[str, Tensor]
    config: Path
    source: str
    dropped: list[str]


def convert(source: Path, configs: Iterable[Path], trust: bool = False) -> Converted:
    """Convert a weight file to the first config it fits.

    Args:
        source: An insightface SCRFD ``.pth`` or ``.onnx`` file, or an mmface checkpoint.
        configs: Configs to try, in this order.
        trust: Whether to unpickle a ``.pth`` that holds more than tensors and plain values.
            This runs whatever code the file contains.

    Returns:
        The weights under mmface's names.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If the file is of no known kind or fits none of the configs; the message
            lists what does not fit the nearest of them.
    """
    kind, rename, dropped = _recognise(source, trust)
    problems: list[tuple[int, str]] = []
    for config in configs:
        model = build_model(config)
        shared = 0
        try:
            state = rename(model)
            own = model.state_dict()
            shared = sum(key in own and own[key].shape == v.shape for key, v in state.items())
            load_weights(model, dict(state_dict=state), str(source))
        except ValueError as error:
            problems.append((shared, f'{config}: {error}'))
            continue
        return Converted(model.state_dict(), config, kind, dropped)
    if not problems:
        raise ValueError('no config to convert to')
    nearest = max(problems, key=lambda problem: problem[0])[1]
    raise ValueError(
        f'{source} ({kind}) fits none of {len(problems)} config(s): it is of another model, '
        f'damaged or incomplete. Nearest: {nearest}'
    )


def build_model(config: Path) -> nn.Module:
    """Build the untrained model of a config."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


Rename = Callable[[nn.Module], dict[str, Tensor]]


def _recognise(source: Path, trust: bool) -> tuple[str, Rename, list[str]]:
    """Tell the kind of a file, and how to fit its weights to a model."""
    if source.suffix.lower() == '.onnx':
        network = read_onnx(source)
        return 'ONNX export', lambda model: scrfd.from_onnx(network, model), []
    checkpoint = load_checkpoint_file(source, trust=trust)
    state = checkpoint['state_dict']
    if scrfd.is_insightface(state):
        dropped = [key for key in scrfd.UNUSED_KEYS if key in state]
        renamed = scrfd.rename(state)
        return 'insightface SCRFD checkpoint', lambda model: renamed, dropped
    return 'state dict', lambda model: dict(state), []
