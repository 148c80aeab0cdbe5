# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Start a training from the weights of other projects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmface.utils.checkpoint import save_checkpoint_file
from mmface.utils.config_files import model_configs
from mmface.weights.convert import as_checkpoint, convert

#: Names under which people keep the published weights of a backbone, by its type.
FILES = {
    'MobileNetV2Taps': ('mobilenet_v2-b0353104.pth',),
    'ResNet': ('R-50.pkl', 'resnet50_msra-5891d200.pth'),
}
#: Options of a backbone for which the files are made. Others make it wider, narrower or deeper.
SIZES = {
    'width': 1,
    'depth': 50,
    'base_channels': 64,
    'stem_channels': 64,
    'in_channels': 3,
    'deep_stem': False,
}
CONVERTED = 'pretrained.pth'


def set_pretrained(cfg: Config, source: Path, trust: bool = False) -> str:
    """Start the training of a config from a file of any kind that can be converted.

    The converted file is written into the work dir. A backbone becomes the ``init_cfg`` of the
    config's backbone, a whole detector its ``load_from``.

    Args:
        cfg: Changed in place. ``work_dir`` must be set.
        source: The file, see ``mmface.weights.convert.SUPPORTED``.
        trust: Whether to unpickle a ``.pth`` that contains more than tensors.

    Returns:
        One sentence that says what the file is and how it is used.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The kind of the file is unknown, or it fits no config.
    """
    configs = [Path(cfg.filename), *sorted(model_configs(), key=lambda path: len(path.name))]
    result = convert(source, configs, trust)
    target = Path(cfg.work_dir) / CONVERTED
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint_file(target, as_checkpoint(result, source))
    if all(key.startswith('backbone.') for key in result.state_dict):
        cfg.model.backbone.init_cfg = dict(
            type='Pretrained', checkpoint=str(target), prefix='backbone.'
        )
        return f'pretrained backbone: {source} ({result.source})'
    cfg.load_from = str(target)
    return f'pretrained detector: {source} ({result.source})'


def find_pretrained(cfg: Config) -> Path | None:
    """Return published weights of the config's backbone beside its data, if they are there.

    Only a config that has no weights yet is looked at.
    """
    if _has_weights(cfg) or not cfg.get('data_root'):
        return None
    root = Path(cfg.data_root)
    for folder in (root, root.parent):
        for name in published_files(cfg.model.get('backbone') or {}):
            if (folder / name).is_file():
                return folder / name
    return None


def published_files(backbone: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of published weights that fit a backbone.

    Args:
        backbone: Its options in a config.
    """
    if any(backbone.get(key) not in (None, size) for key, size in SIZES.items()):
        return ()
    return FILES.get(str(backbone.get('type')).rpartition('.')[2], ())


def describe_start(cfg: Config) -> str | None:
    """Return a sentence if a backbone starts at random that its recipe starts from a file."""
    names = published_files(cfg.model.get('backbone') or {})
    if not names or _has_weights(cfg):
        return None
    return (
        'no pretrained backbone: it starts from random weights. Its recipe starts from '
        f'{names[0]}, which is also found by itself in the data folder'
    )


def check_frozen(cfg: Config) -> None:
    """Refuse to train behind a backbone that is frozen at random values.

    Raises:
        ValueError: The config freezes stages or norms of a backbone that has no weights.
    """
    backbone = cfg.model.get('backbone') or {}
    frozen = _frozen(backbone)
    if frozen and not _has_weights(cfg):
        names = published_files(backbone)
        known = f' (such as {names[0]}, also found by itself in the data folder)' if names else ''
        raise ValueError(
            f'the config freezes {frozen} of its backbone {backbone.get("type")}, which has no '
            f'weights: they would stay random. Name a file with pretrained{known}, or train all of '
            'it with from_scratch'
        )


def unfreeze(cfg: Config) -> None:
    """Train the whole backbone: no frozen stages, norms with the statistics of the batch."""
    backbone: Any = cfg.model.get('backbone') or {}
    if backbone.get('frozen_stages', -1) >= 0:
        backbone.frozen_stages = -1
    if backbone.get('norm_eval'):
        backbone.norm_eval = False
    if not (backbone.get('norm_cfg') or {}).get('requires_grad', True):
        backbone.norm_cfg.requires_grad = True


def _frozen(backbone: dict) -> str:
    """Return what a backbone keeps at its first values, empty for nothing."""
    parts = []
    if backbone.get('frozen_stages', -1) >= 0:
        parts.append('stages')
    if backbone.get('norm_eval') or not (backbone.get('norm_cfg') or {}).get('requires_grad', True):
        parts.append('norms')
    return ' and '.join(parts)


def _has_weights(cfg: Config) -> bool:
    inits = (cfg.model.get('init_cfg'), cfg.model.get('backbone', {}).get('init_cfg'))
    pretrained = any(isinstance(i, dict) and i.get('type') == 'Pretrained' for i in inits)
    return bool(pretrained or cfg.get('load_from') or _continues(cfg))


def _continues(cfg: Config) -> bool:
    """Return whether there is a run to resume. The first start with resume is a new run."""
    folder = Path(cfg.get('work_dir') or '.')
    names = ('last_checkpoint', 'epoch_*.pth', 'iter_*.pth')
    return bool(cfg.get('resume')) and any(any(folder.glob(name)) for name in names)
