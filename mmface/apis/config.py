# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read a config and apply the options of training and testing to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.utils import import_modules_from_strings

from mmface.apis.config_options import check_options
from mmface.apis.image_size import set_test_mode
from mmface.utils.config_dicts import as_list, dicts
from mmface.utils.config_files import config_path
from mmface.utils.config_variables import read_config
from mmface.utils.data_root import find_data_root

#: Optimizer wrappers that an option can replace with each other, and the options they share.
PRECISION_WRAPPERS = ('OptimWrapper', 'AmpOptimWrapper', 'AutocastOptimWrapper', 'O2OptimWrapper')
WRAPPER_OPTIONS = ('optimizer', 'paramwise_cfg', 'constructor', 'clip_grad', 'accumulative_counts')


def load_config(path: str, options: Mapping[str, Any] | None = None, check: bool = True) -> Config:
    """Read a config file, apply options and import what it registers.

    Args:
        path: A Python config file, or the name of a config of mmface.
        options: Dotted keys and their values, as in ``--cfg-options``.
        check: Whether to call ``report_options``. A caller that changes the types of objects in
            the config calls it afterwards.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file, one of its bases or an option cannot be read, or an option is not
            a parameter of the class that it is meant for.
    """
    file = config_path(path)
    try:
        cfg = read_config(str(file), options)
    except Exception as error:  # a config is Python code: it can raise anything
        raise ValueError(f'config {path}: {type(error).__name__}: {error}') from error
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg['custom_imports'])
    if check:
        report_options(cfg, path, options)
    return cfg


def report_options(cfg: Config, path: str, options: Mapping[str, Any] | None) -> None:
    """Log a warning for each option that probably acts on nothing.

    Args:
        cfg: The config with the options.
        path: As for ``load_config``.
        options: As for ``load_config``.

    Raises:
        ValueError: An option is not a parameter of the class that it is meant for.
    """
    if not options:
        return
    plain = Config.fromfile(config_path(path), import_custom_modules=False)
    for note in check_options(_with_hooks(plain), options, _with_hooks(cfg)):
        print_log(note, logger='current', level=logging.WARNING)


def _with_hooks(cfg: Config) -> dict[str, Any]:
    """Return the settings of a config and the hooks that every run has."""
    from mmface.engine.face_runner import DEFAULT_HOOKS  # imports torch

    hooks = {name: {**hook} for name, hook in DEFAULT_HOOKS.items()}
    for name, hook in (cfg.get('default_hooks') or {}).items():
        hooks[name] = {**hooks.get(name, {}), **(hook or {})}
    return {**cfg._cfg_dict, 'default_hooks': hooks}


def set_data_path(cfg: Config, path: str | None) -> None:
    """Replace ``cfg.data_root`` with ``path`` in every string of the config.

    Args:
        cfg: Changed in place.
        path: Folder of the data set or one above it (see :func:`.find_data_root`). None only
            checks the folder of the config.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The config has no ``data_root``.
    """
    root = cfg.get('data_root')
    if root is None:
        if path is not None:
            raise ValueError('path needs a config with data_root = ...; this one has none')
        return
    # An option such as train_dataloader.dataset.data_root may name another folder.
    own = {item['data_root'] for item in dicts(cfg.get('train_dataloader')) if 'data_root' in item}
    used = path is not None or own <= {root}
    wanted = find_data_root(root if path is None else path) if used else root
    if path is not None:
        bare = root.rstrip('/')
        new = wanted.rstrip('/')

        def replace(text: str) -> str:
            if text == bare or text.startswith(bare + '/'):
                return new + text[len(bare) :]
            return text

        _map_strings(cfg._cfg_dict, replace)  # in place: dicts stay the same objects


def set_mode(cfg: Config, mode: str) -> None:
    """Set the image size of the test. The aspect ratio of each image is kept.

    With a square mode, the config's own resizing transform stays. ``FaceResize`` and
    ``FaceLetterbox`` fit the image into the square and pad it: ``FaceResize`` at the right and
    bottom, ``FaceLetterbox`` on all sides. The modes 1650 and origin have no square.
    ``FaceLetterbox`` then becomes ``FaceResize`` (1650) or ``Resize`` with factor 1 (origin), and
    ``FaceResize`` also becomes ``Resize`` with origin. Images are padded at the right and bottom to
    multiples of 32. ``FaceStretch`` stays in every mode: it fits the image, then stretches each
    side to the next multiple of 32, without padding.

    Args:
        cfg: Changed in place: the resizing transform of the test pipeline, and the padding of
            the data preprocessor.
        mode: A square: 'vga' (640) or a multiple of 32 such as '960', the side in pixels.
            '1650': the short side is at most 1100 and the long side at most 1650 pixels. The image
            is as large as both limits allow, so small images are enlarged.
            'origin': images keep their size.

    Raises:
        ValueError: The mode is unknown, or the test pipeline has none of the three transforms.
    """
    set_test_mode(cfg, mode, ('test_dataloader',))


def set_metric(cfg: Config, **values: Any) -> None:
    """Set arguments of the test's ``WiderFaceMetric``. None leaves an argument unchanged.

    Args:
        cfg: Changed in place.
        values: Argument names and their values.

    Raises:
        ValueError: The config has no such metric.
    """
    values = {key: value for key, value in values.items() if value is not None}
    metrics = [m for m in dicts(cfg.test_evaluator) if m.get('type') == 'WiderFaceMetric']
    if values and not metrics:
        raise ValueError(
            f'{", ".join(values)}: only for configs that test with WiderFaceMetric; this one '
            'does not'
        )
    for metric in metrics:
        metric.update(values)


def set_out_dir(cfg: Config, folder: str) -> None:
    """Make the metrics of the test that can write ``metrics.json`` write it to ``folder``."""
    for metric in dicts(cfg.test_evaluator):
        if metric.get('type') in ('WiderFaceMetric', 'CocoBoxMetric'):
            metric['out_dir'] = folder


def set_part(cfg: Config, part: str | None) -> None:
    """Restrict the test to the images listed in the file ``part``.

    Raises:
        FileNotFoundError: The file does not exist.
    """
    if part is None:
        return
    if not Path(part).is_file():
        raise FileNotFoundError(
            f"part list {part} does not exist; expected a text file with 'event/name.jpg' lines"
        )
    for dataset in dicts(cfg.test_dataloader):
        if dataset.get('type') == 'WiderFaceDataset':
            dataset['part'] = part
    set_metric(cfg, part=part)


def set_precision(cfg: Config, path: str | Path) -> None:
    """Set the training precision from a file of ``configs/_base_/precision``.

    Options of the optimizer wrapper that do not concern precision stay. A config that already has
    this precision keeps its own options. A static loss scale belongs to the network, so it stays
    between O1 and O2.

    Args:
        cfg: Changed in place.
        path: Config file that defines ``precision``, the options of the optimizer wrapper.

    Raises:
        ValueError: The config has an optimizer wrapper of another type.
    """
    precision = Config.fromfile(path)['precision']
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in PRECISION_WRAPPERS:
        raise ValueError(f'the precision of the optimizer wrapper {kind} cannot be changed')
    if kind != precision['type']:
        kept = {key: cfg.optim_wrapper[key] for key in WRAPPER_OPTIONS if key in cfg.optim_wrapper}
        scale = cfg.optim_wrapper.get('loss_scale')
        cfg.optim_wrapper = {**kept, **precision}
        if 'loss_scale' in precision and isinstance(scale, int | float):
            cfg.optim_wrapper.loss_scale = scale


def set_length(cfg: Config, epochs: int) -> None:
    """Set the length of the training in epochs. The schedule scales with it.

    Warm-up, milestones and the interval of the validation keep their part of the run (see
    :func:`.scale_schedule`). If the config counts iterations, the loop computes their number,
    because it knows the size of the data set.

    Args:
        cfg: Changed in place.
        epochs: The new length.

    Raises:
        ValueError: The config counts iterations in a loop that does not know epochs.
    """
    from mmface.engine.schedule_length import scale_schedule, scale_validation

    loop = cfg.train_cfg
    if 'max_iters' in loop:
        if loop.get('type') != 'ResumableIterTrainLoop':
            raise ValueError(
                f'this config counts iterations in {loop.get("type", "a loop of mmengine")}, which '
                'does not know epochs: set its length with the config option train_cfg.max_iters'
            )
        loop.num_epochs = epochs
        return
    before, loop.max_epochs = loop.max_epochs, epochs
    scale_validation(loop, before, epochs)
    if cfg.get('param_scheduler'):
        cfg.param_scheduler = scale_schedule(as_list(cfg.param_scheduler), before, epochs)


def cut_length(cfg: Config, epochs: int, iters: int) -> None:
    """End the training early. The learning rate schedule stays.

    Args:
        cfg: Changed in place.
        epochs: Length if the config counts epochs.
        iters: Length if the config counts iterations.
    """
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.max_iters = iters
    else:
        cfg.train_cfg.max_epochs = epochs


def set_lr(cfg: Config, lr: float) -> None:
    """Set the base learning rate. A resumed run takes it, too.

    The limits of schedulers (``eta_min`` and others) keep their ratio to it.

    Args:
        cfg: Changed in place.
        lr: The new learning rate.

    Raises:
        ValueError: The config has no learning rate.
    """
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    if 'lr' not in optimizer:
        raise ValueError('lr needs a config with optim_wrapper.optimizer.lr; this one has none')
    ratio = lr / optimizer['lr']
    optimizer['lr'] = lr
    for scheduler in as_list(cfg.get('param_scheduler') or []):
        for key in ('eta_min', 'eta_max', 'min_value'):
            if scheduler.get(key):
                scheduler[key] *= ratio
    cfg.reset_lr = True


def add_log(cfg: Config, backend: str) -> None:
    """Log to another backend of mmengine's visualizer, too."""
    visualizer = dict(cfg.get('visualizer') or {'type': 'FaceVisualizer'})
    backends = as_list(visualizer.get('vis_backends') or [{'type': 'LocalVisBackend'}])
    if backend not in [item.get('type') for item in backends]:
        backends.append({'type': backend})
    cfg.visualizer = {**visualizer, 'vis_backends': backends}


def set_milestones(cfg: Config, milestones: Sequence[int]) -> None:
    """Set when the learning rate drops, in the unit of the config (epochs or iterations).

    Args:
        cfg: Changed in place: its ``MultiStepLR``.
        milestones: Ascending numbers of epochs or iterations.

    Raises:
        ValueError: The config has no ``MultiStepLR``.
    """
    drops = [s for s in as_list(cfg.get('param_scheduler') or []) if s.type == 'MultiStepLR']
    if not drops:
        kinds = ', '.join(s.type for s in as_list(cfg.get('param_scheduler') or [])) or 'none'
        raise ValueError(
            f'milestones need a config with the scheduler MultiStepLR; this one has {kinds}'
        )
    for scheduler in drops:
        scheduler.milestones = list(milestones)


def set_no_validation(cfg: Config) -> None:
    """Train without validation."""
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None


def _map_strings(value: Any, replace: Callable[[str], str]) -> Any:
    """Apply ``replace`` to every string in nested dicts, lists and tuples."""
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, dict):
        for key in value:
            value[key] = _map_strings(value[key], replace)
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(_map_strings(item, replace) for item in value)
    return value
