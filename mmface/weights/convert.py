# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Recognise the weights of other projects and convert them to mmface checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmface import __version__
from mmface.utils.checkpoint import load_checkpoint_file, load_weights
from mmface.weights import centerface, centernet2, resnet, scrfd
from mmface.weights.detectron2_pickle import is_pickle, read_detectron2_pickle
from mmface.weights.folded_norms import FOLDED, folded_names
from mmface.weights.mindspore_ckpt import read_mindspore_ckpt
from mmface.weights.mobilenet_v2 import Layout
from mmface.weights.ncnn import read_ncnn
from mmface.weights.onnx_convs import OnnxNetwork, read_onnx

SUPPORTED = (
    'insightface SCRFD (.pth, .onnx, ncnn .param with .bin), CenterFace of chenjun2hao and Ascend '
    '(.pth), Star-Clouds (.onnx) and MindSpore (.ckpt), MobileNetV2 of torchvision (.pth) and '
    'MindSpore (.ckpt), '
    'CenterNet2 of xingyizhou (.pth), ResNet of detectron2 (.pkl), torchvision and MMDetection '
    '(.pth), Res2Net and DLA-34 likewise, and checkpoints of mmface'
)
_NOT_NETWORK = ('data_preprocessor', 'train_cfg', 'test_cfg')
_BACKBONE_NOTE = (
    "for a config's model.backbone.init_cfg: dict(type='Pretrained', checkpoint=..., "
    "prefix='backbone.')"
)


class Converted(NamedTuple):
    """Weights that fit a config.

    Attributes:
        state_dict: Exactly the keys of the config's model, or of its backbone.
        config: The config they fit.
        source: Kind of the source file.
        dropped: Keys of the source that no model uses.
        note: What users of the weights must know; may be empty.
    """

    state_dict: dict[str, Tensor]
    config: Path
    source: str
    dropped: list[str]
    note: str = ''


class _Source(NamedTuple):
    """A file that was recognised.

    Attributes:
        kind: Its kind, for messages.
        rename: Function that renames the weights for a model, which may be needed for that.
        accepts: Function that returns whether a config has the kind of model of the weights.
        check: Raises ``ValueError`` if a model differs in properties that shapes do not show.
        dropped: Keys that no model uses.
        config: Name of the config that fits best, if it is known.
        part: The only part of the model to which the weights belong; empty for the whole model.
        note: What users of the weights must know.
    """

    kind: str
    rename: Callable[[nn.Module], dict[str, Tensor]]
    accepts: Callable[[Config], bool] = lambda _: True
    check: Callable[[nn.Module], None] = lambda _: None
    dropped: list[str] = []
    config: str | None = None
    part: str = ''
    note: str = ''


def convert(source: Path, configs: Iterable[Path], trust: bool = False) -> Converted:
    """Convert a weight file to the first config that it fits.

    Args:
        source: A file of one of the kinds in ``SUPPORTED``.
        configs: Configs to try in this order, except that the one known to fit the kind is first.
        trust: Whether to unpickle a ``.pth`` that contains more than tensors and plain values.
            This runs any code in the file.

    Returns:
        The weights under mmface's names.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The kind of the file is unknown, or it fits none of the configs. The message
            lists the differences to the nearest config.
    """
    found = _recognise(source, trust)
    problems: list[tuple[int, str]] = []
    tried: list[dict] = []
    for config in sorted(configs, key=lambda path: path.stem != found.config):
        cfg = Config.fromfile(config)
        if not found.accepts(cfg):
            problems.append((-1, f'{config}: its model is of another kind'))
            continue
        # Overlays with other schedules and precisions have the same network as their base config.
        network = {key: value for key, value in cfg.model.items() if key not in _NOT_NETWORK}
        if network in tried:
            continue
        tried.append(network)
        model = _build(cfg)
        shared = 0
        try:
            state = found.rename(model)
            own = model.state_dict()
            shared = sum(key in own and own[key].shape == v.shape for key, v in state.items())
            found.check(model)
            converted = _load(model, state, found.part, str(source))
        except ValueError as error:
            problems.append((shared, f'{config}: {error}'))
            continue
        return Converted(converted, config, found.kind, found.dropped, found.note)
    if not problems:
        raise ValueError('expected at least one config to convert to, found none')
    shared, nearest = max(problems, key=lambda problem: problem[0])
    if shared < 0:
        raise ValueError(
            f'{source} ({found.kind}): none of {len(problems)} config(s) has such a model; '
            f'add {found.config or "one that has"} to configs'
        )
    raise ValueError(
        f'{source} ({found.kind}) fits none of {len(problems)} config(s): it belongs to another '
        f'model, is damaged or incomplete. Nearest: {nearest}'
    )


def as_checkpoint(converted: Converted, source: Path) -> dict[str, Any]:
    """Return converted weights as the content of a checkpoint that says where they come from.

    Args:
        converted: The weights.
        source: The file from which they were converted.
    """
    meta = dict(
        mmface_version=__version__,
        config=converted.config.stem,
        source=dict(
            name=source.name,
            sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
            kind=converted.source,
        ),
        **{FOLDED: folded_names(converted.state_dict)},
    )
    return dict(meta=meta, state_dict=converted.state_dict)


def build_model(config: Path) -> nn.Module:
    """Build the untrained model of a config."""
    return _build(Config.fromfile(config))


def to_mindspore(converted: Converted) -> tuple[dict[str, np.ndarray], str]:
    """Rename converted weights to MindSpore's names.

    Returns:
        Tensors for ``write_mindspore_ckpt``, and what users of them must know; may be empty.

    Raises:
        ValueError: The weights are not those of CenterFace or its backbone.
    """
    arrays = centerface.to_mindspore(converted.state_dict)
    variant = centerface.variant_of(Layout.MMFACE, converted.state_dict)
    if variant.neck is None or variant.config == 'centerface_mindspore':
        return arrays, ''
    return arrays, f"this is a {variant}; MindSpore's own CenterFace has a dense neck (64 channels)"


def _build(cfg: Config) -> nn.Module:
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


def _load(model: nn.Module, state: dict[str, Tensor], part: str, source: str) -> dict[str, Tensor]:
    """Load weights into a model or one part of it and return what was loaded."""
    if not part:
        _load_all(model, state, source)
        return model.state_dict()
    head = f'{part}.'
    own = model.get_submodule(part)
    _load_all(own, {key.removeprefix(head): value for key, value in state.items()}, source)
    return {head + key: value for key, value in own.state_dict().items()}


def _load_all(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    misfit = load_weights(model, dict(state_dict=state))
    if misfit:
        raise ValueError(f'{source} does not fit the model of this config: {misfit}')


def _recognise(source: Path, trust: bool) -> _Source:
    """Find the kind of a file, and how to fit its weights to a model."""
    if not source.is_file():
        raise FileNotFoundError(f'no such file: {source}')
    if is_pickle(source):
        arrays = read_detectron2_pickle(source).arrays
        state = {key: torch.from_numpy(value) for key, value in arrays.items()}
        return _recognise_names(source, state)
    with source.open('rb') as file:
        start = file.read(4)
    # Lightning's .ckpt files are torch files: a zip archive, or a pickle in old ones.
    is_torch = start == b'PK\x03\x04' or start[:1] == b'\x80'
    if not is_torch and (source.suffix.lower() in ('.param', '.bin') or start == b'7767'):
        network = read_ncnn(source)
        return _Source('ncnn SCRFD', lambda model: scrfd.from_onnx(network, model), _is_scrfd)
    # ONNX begins with its first field, a number. A MindSpore checkpoint begins with a tensor.
    if not is_torch and (source.suffix.lower() == '.onnx' or start[:1] == b'\x08'):
        return _recognise_onnx(source, read_onnx(source))
    if not is_torch and (source.suffix.lower() == '.ckpt' or start[:1] == b'\x0a'):
        state = centerface.mindspore_state(read_mindspore_ckpt(source))
    else:
        state = load_checkpoint_file(source, trust=trust)['state_dict']
    return _recognise_names(source, state)


def _recognise_names(source: Path, state: dict[str, Tensor]) -> _Source:
    """Find the kind of weights from the names of the tensors."""
    if scrfd.is_insightface(state):
        dropped = [key for key in scrfd.UNUSED_KEYS if key in state]
        renamed = scrfd.rename(state)
        return _Source(
            'insightface SCRFD checkpoint', lambda _: renamed, _is_scrfd, dropped=dropped
        )
    known = centerface.rename(state)
    if known is not None:
        return _recognise_centerface(*known)
    if any(key.startswith('bbox_head.module.') for key in state):
        return _Source('mmface checkpoint', lambda _: dict(state))
    detector = centernet2.rename(state)
    if detector is not None:
        variant = detector.variant
        return _Source(
            f'{variant.origin or "mmface"} checkpoint of a {variant}',
            lambda _: detector.state_dict,
            lambda cfg: variant.fits(cfg.model),
            dropped=detector.dropped,
            config=variant.config,
        )
    backbone = resnet.rename(state)
    if backbone is not None:
        return _Source(
            f'{backbone.layout.value} checkpoint of a {backbone.variant}',
            lambda model: resnet.with_offsets(backbone.state_dict, model),
            lambda cfg: backbone.variant.fits(cfg.model.get('backbone', {})),
            dropped=backbone.dropped,
            part='backbone',
            note=f'{_BACKBONE_NOTE}; {backbone.note}',
        )
    raise ValueError(
        f'{source} has {len(state)} tensors of an unknown layout (such as '
        f'{", ".join(list(state)[:3])}). Supported: {SUPPORTED}'
    )


def _recognise_onnx(source: Path, network: OnnxNetwork) -> _Source:
    """Distinguish SCRFD and CenterFace by their layers."""
    if not network.deconvs:
        return _Source(
            'ONNX export of SCRFD', lambda model: scrfd.from_onnx(network, model), _is_scrfd
        )
    if not centerface.is_centerface_onnx(network):
        raise ValueError(
            f'{source} has {len(network.convs)} convolutions and {len(network.deconvs)} '
            f'transposed ones, unlike all known models. Supported: {SUPPORTED}'
        )
    state = centerface.from_onnx(network)
    variant = centerface.variant_of(Layout.MMFACE, state)
    # Only the released network has these properties. The weights do not show the convention.
    star_clouds = not network.clipped and variant.config == 'centerface_starclouds'
    note = (
        'these weights need raw RGB 0-255 images and coder convention star_clouds, as in config '
        'centerface_starclouds'
        if star_clouds
        else 'the file does not show the coder convention and the normalisation: compare the '
        "config with the exporter's"
    )
    convention = 'star_clouds' if star_clouds else None
    return _Source(
        f'{"Star-Clouds " if star_clouds else ""}ONNX export of a {variant}',
        lambda model: centerface.unit_variances(state, model),
        _is_centerface,
        lambda model: centerface.check_model(model, convention, network.clipped),
        config=variant.config,
        note=note,
    )


def _recognise_centerface(layout: Layout, state: dict[str, Tensor], dropped: list[str]) -> _Source:
    """Describe weights of CenterFace or of its backbone."""
    variant = centerface.variant_of(layout, state)
    kind = f'{layout.value} checkpoint of a {variant}'
    if variant.neck is None:
        return _Source(
            kind,
            lambda _: state,
            lambda cfg: cfg.model.get('backbone', {}).get('type') == 'MobileNetV2Taps',
            dropped=dropped,
            part='backbone',
            note=_BACKBONE_NOTE,
        )
    convention = centerface.CONVENTIONS.get(layout)
    return _Source(
        kind,
        lambda _: state,
        _is_centerface,
        lambda model: centerface.check_model(model, convention, True if convention else None),
        dropped,
        variant.config,
    )


def _is_scrfd(cfg: Config) -> bool:
    return cfg.model.type == 'SCRFD'


def _is_centerface(cfg: Config) -> bool:
    return cfg.model.type == 'CenterFace'
