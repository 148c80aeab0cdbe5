# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The runner used by tools/train.py and tools/test.py."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mmdet.registry import OPTIM_WRAPPERS
from mmengine.device import get_device
from mmengine.dist import (
    broadcast,
    broadcast_object_list,
    is_distributed,
    is_main_process,
    master_only,
)
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.logging import MMLogger
from mmengine.model import BaseTTAModel, is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint
from torch import nn
from torch.utils.data import DataLoader

from mmface.engine.autocast_optim_wrapper import AutocastOptimWrapper
from mmface.engine.console import for_console
from mmface.engine.dist import init_distributed, wrapper_options
from mmface.engine.hooks.master_ema_hook import MasterEMAHook
from mmface.engine.loader_workers import WorkerStart
from mmface.engine.master_weights import cast_to_half, round_masters, weights_and_masters
from mmface.engine.npu_optimizers import build_npu_wrapper
from mmface.engine.o2_optim_wrapper import O2OptimWrapper
from mmface.engine.own_metrics import choose_metrics
from mmface.engine.resumed_schedule import ResumedSchedule, mark_kinds
from mmface.engine.resumed_state import (
    check_training_state,
    confine_removals,
    take_config_texts,
)
from mmface.engine.run_guard import clear_errors, guard_training
from mmface.utils.checkpoint import secure_mmengine_loading
from mmface.utils.checkpoint_health import find_resume_checkpoint
from mmface.utils.files import remove_leftovers, whole_file, write_text
from mmface.utils.memory_format import use_memory_format
from mmface.weights.loading import load_fitting_weights

#: Entries that a checkpoint needs besides weights so that a run can be resumed.
TRAINING_STATE = ('meta', 'message_hub', 'optimizer')
#: Arguments of ``O2OptimWrapper`` that define how the model is cast.
CAST_OPTIONS = ('dtype', 'half_norms')
#: Optimizer wrappers that work on every NPU. mmengine would replace them there.
OWN_WRAPPERS = (AutocastOptimWrapper, O2OptimWrapper)
#: Hooks of every run. An entry of ``default_hooks`` of the same name changes options, None removes.
DEFAULT_HOOKS = {
    'runtime_info': {'type': 'LateRuntimeInfoHook'},
    'bad_images': {'type': 'BadImagesHook'},
    'class_count': {'type': 'ClassCountHook'},
    'keypoint_count': {'type': 'KeypointCountHook'},
    'non_finite': {'type': 'NonFiniteHook'},
    'preemption': {'type': 'PreemptionHook'},
    'history': {'type': 'BoundedHistoryHook'},
    'ranks': {'type': 'RankWatchHook'},
    'norms': {'type': 'NormStatisticsHook'},
}


# In mmengine's registry, not mmdet's: mmdet's tools look for a runner before any scope is set.
@RUNNERS.register_module()
class FaceRunner(Runner):
    """mmengine's ``Runner`` with these differences.

    * Several ranks also work on the CPU (gloo).
    * Checkpoints are data. No code in them is run, also if other tools build the runner. They
      do not decide which files are removed (see :mod:`.resumed_state`).
    * Weights must fit the model: all in a test or a resumed run, most of them for ``load_from``
      without ``allow_partial=True`` in the config (see :func:`.load_fitting_weights`).
    * A resumed run follows the length and the schedule of its config (``ResumedSchedule``).
    * Checkpoints are written completely or not at all.
    * A data set without the ground truth of WIDER FACE is evaluated by its labels, see
      :func:`.choose_metrics`.
    * The config and the environment go to the log file only, not to the console.
    * The memory format of the weights follows :func:`.use_memory_format`.
    * With ``O2OptimWrapper``, the model is cast before it is wrapped. mmengine cannot replace
      mmface's optimizer wrappers on early NPUs. NPUs use their fused optimizers.
    """

    # _strict: all weights must fit. _resuming: the checkpoint must hold a training state.
    _strict = False
    _resuming = False
    _schedule: ResumedSchedule | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Before anything is built, because a model's init_cfg may name a checkpoint.
        secure_mmengine_loading((kwargs.get('cfg') or {}).get('trust_checkpoint', False))
        notes = choose_metrics(kwargs)
        super().__init__(*args, **kwargs)
        for note in notes:
            self.logger.info(note)

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Start the process group, if there is one, and do the rest of mmengine's setup."""
        if self.distributed and not is_distributed():
            init_distributed(self.launcher, **env_cfg.get('dist_cfg', {}))
        super().setup_env(env_cfg)
        if is_main_process():
            remove_leftovers(self.work_dir)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger and keep long messages out of the console."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(for_console)
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """Build a visualizer of this run. mmengine returns an earlier one of the same name."""
        if isinstance(visualizer, dict) and visualizer.get('name') == 'visualizer':
            visualizer = {**visualizer, 'name': self._experiment_name}
        return super().build_visualizer(visualizer)

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Move the model to its device, cast it for O2, and wrap it for several ranks."""
        use_memory_format(model, self.cfg, get_device())
        if self.distributed and get_device() == 'cpu' and not is_model_wrapper(model):
            model = revert_sync_batchnorm(model)  # synchronized it supports accelerators only
        wrapper = self._optim_wrapper_class()
        if wrapper is not None and issubclass(wrapper, O2OptimWrapper):
            # Masters are made from initialized weights, and DDP must see the final dtypes.
            model.init_weights()  # type: ignore[operator]
            options = {k: self.optim_wrapper[k] for k in CAST_OPTIONS if k in self.optim_wrapper}
            cast_to_half(model.to(get_device()), **options)
        if self.distributed and not is_model_wrapper(model):
            model_wrapper_cfg = wrapper_options(model, self.cfg, model_wrapper_cfg)
        return super().wrap_model(model_wrapper_cfg, model)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the optimizer wrapper of the config, on NPUs with :func:`.build_npu_wrapper`."""
        wrapper = self._optim_wrapper_class()
        if wrapper is None or get_device() != 'npu':
            return super().build_optim_wrapper(optim_wrapper)
        build = None if issubclass(wrapper, OWN_WRAPPERS) else super().build_optim_wrapper
        return build_npu_wrapper(self.model, optim_wrapper, build, self.logger.info)

    def _optim_wrapper_class(self) -> type | None:
        """Return the class of the optimizer wrapper to build, or None if there is none."""
        cfg = self.optim_wrapper
        if not isinstance(cfg, dict) or not isinstance(cfg.get('optimizer'), dict):
            return None
        kind = cfg.get('type', 'OptimWrapper')
        return OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind

    def _init_model_weights(self) -> None:
        """Initialize the weights and copy those of rank 0 to all ranks."""
        model = self.model.module if is_model_wrapper(self.model) else self.model
        if next(weights_and_masters(model), None) is None:
            super()._init_model_weights()
            return
        for value in model.state_dict().values():
            broadcast(value)
        round_masters(model)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict[str, Any],
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """Build a data loader without options that need missing workers or accelerators."""
        if isinstance(dataloader, dict):
            dataloader = dict(dataloader)
            if not dataloader.get('num_workers'):
                dataloader.pop('persistent_workers', None)
                dataloader.pop('prefetch_factor', None)
            if get_device() == 'cpu':
                dataloader.pop('pin_memory', None)
        built = Runner.build_dataloader(dataloader, seed=seed, diff_rank_seed=diff_rank_seed)
        if built.num_workers and not isinstance(built.worker_init_fn, WorkerStart):
            built.worker_init_fn = WorkerStart(built.worker_init_fn)
        return built

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Register mmengine's default hooks and those that every run of ours has."""
        given = dict(hooks or {})
        for name, default in DEFAULT_HOOKS.items():
            hook = given.get(name, {})
            if hook is None:
                del given[name]
            elif isinstance(hook, dict):  # options in place of some of the default
                given[name] = {**default, **hook}
        super().register_default_hooks(given)

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """Register a hook. The arguments are those of ``Runner``.

        Raises:
            ValueError: The hook is mmengine's ``EMAHook`` and O2 is used. It would average
                rounded weights.
        """
        super().register_hook(hook, priority)
        wrapper = self._optim_wrapper_class()
        if (
            wrapper is not None
            and issubclass(wrapper, O2OptimWrapper)
            and any(isinstance(h, EMAHook) and not isinstance(h, MasterEMAHook) for h in self.hooks)
        ):
            raise ValueError(
                "with O2OptimWrapper use type='MasterEMAHook' instead of EMAHook: it averages the "
                'float32 masters'
            )

    def load_or_resume(self) -> None:
        """Load or resume a checkpoint if the config asks for it.

        ``resume='auto'``, and ``resume=True`` without ``load_from``, continue from the newest
        intact checkpoint in the work dir. If there is no run yet, ``load_from`` gives the
        initial weights.

        Raises:
            FileNotFoundError: The checkpoint to continue from does not exist.
            ValueError: It is damaged, or all checkpoints in the work dir are damaged.
        """
        if (
            self._resume
            and (self._resume == 'auto' or not self._load_from)
            and not self._has_loaded
        ):
            found = self._find_resume_checkpoint()
            if found is None:
                start = f'from the weights {self._load_from}' if self._load_from else 'a new run'
                self.logger.warning(f'NO RUN TO RESUME in {self.work_dir}: starting {start}.')
            self._resume, self._load_from = found is not None, found or self._load_from
        note = Path(self.work_dir) / 'last_checkpoint'
        if not self._resume and self._train_dataloader is not None and note.is_file():
            self.logger.warning(
                f'{self.work_dir} holds checkpoints of an earlier run, which this one replaces; '
                '--resume (resume=True in a config) would continue it'
            )
        super().load_or_resume()

    def _find_resume_checkpoint(self) -> str | None:
        """Find the checkpoint to continue from on rank 0 and send its path to all ranks."""
        found: list[Any] = [None]
        if self.rank == 0:
            try:
                path = find_resume_checkpoint(self.work_dir)
                found = [None if path is None else str(path)]
            except (ValueError, OSError) as error:
                found = [error]  # raised on every rank, so that no rank waits for another
        broadcast_object_list(found)
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continue the run that wrote ``filename``.

        The length and the settings of the schedulers follow the config. The base learning rate
        and the classes of the schedulers are those of the checkpoint, with a warning if the
        config has others; ``reset_lr=True`` and ``reset_schedule=True`` in the config change that
        (see :class:`.ResumedSchedule`).

        Raises:
            ValueError: The weights in the file do not fit, it holds weights only, or it is from
                another class of optimizer.
        """
        self._strict = self._resuming = True
        self._schedule = ResumedSchedule.of(self)
        resume_schedulers = {'resume_param_scheduler': self._schedule is None}
        super().resume(filename, *args, **{**kwargs, **resume_schedulers})
        if self._schedule is not None:
            self._schedule.resume(self)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the schedulers of the config. Checkpoints will contain their class names."""
        built = super().build_param_scheduler(scheduler)
        for one in built.values() if isinstance(built, dict) else [built]:
            mark_kinds(one)
        return built

    def train(self) -> nn.Module:
        """Train the model. See :func:`.guard_training` for how a training can end."""
        with guard_training(self):
            return super().train()

    def val(self) -> dict[str, float]:
        """Validate the model."""
        with clear_errors(self):
            return super().val()

    def test(self) -> dict[str, float]:
        """Test the model with weights that must fit completely."""
        self._strict = True
        with clear_errors(self):
            return super().test()

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = 'cpu',
        strict: bool = False,
        revise_keys: Any = None,
    ) -> dict[str, Any]:
        """Load the weights of a checkpoint into the model.

        Args:
            filename: A path, or any address that mmengine supports.
            map_location: As for ``torch.load``.
            strict: Whether every key must fit. Always true in a test and when resuming.
            revise_keys: Not used. A leading ``module.`` is removed from the keys.

        Returns:
            The checkpoint.

        Raises:
            ValueError: The weights do not fit the model.
        """
        checkpoint = _load_checkpoint(filename, map_location=map_location)
        lost = [key for key in TRAINING_STATE if key not in checkpoint]
        if self._resuming and lost:
            raise ValueError(
                f'{filename} holds weights only ({", ".join(lost)} missing), so no run can be '
                'resumed from it; start a new run from these weights with load_from'
            )
        self._take_as_data(checkpoint, str(filename))
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model = self.model
        # Test-time augmentation loads the weights of its detector, as in mmengine.
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        allow_partial = self.cfg.get('allow_partial', False)
        load_fitting_weights(
            model, checkpoint, str(filename), strict or self._strict, allow_partial
        )
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def _take_as_data(self, checkpoint: dict[str, Any], source: str) -> None:
        """Remove what could be evaluated or could name files to remove from a checkpoint."""
        texts = take_config_texts(checkpoint)
        if not self._resuming:
            return
        check_training_state(checkpoint, source)
        if self._schedule is not None:
            self._schedule.check(checkpoint, source)
        folders = {Path(self.work_dir)}
        for hook in self.hooks:
            if isinstance(hook, CheckpointHook) and hook.out_dir is not None:
                # The same path that the hook builds when training starts.
                folders.add(Path(hook.out_dir, Path(self.work_dir).name))
        for forgotten in confine_removals(checkpoint, sorted(folders)):
            self.logger.warning(f'{source}: {forgotten}, so it will not be removed')
        if texts and self.rank == 0:
            note = Path(self._log_dir) / 'resumed_config.txt'
            write_text(note, ''.join(f'# {place} of {source}\n{texts[place]}\n' for place in texts))
            self.logger.info(f'The config in {source} is not evaluated; it is saved in {note}')

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint completely or not at all. The arguments are those of ``Runner``.

        Raises:
            OSError: It could not be written, for example because the disk is full. Files
                that existed before are unchanged.
        """
        if '://' in str(out_dir):  # object storage: the backend's responsibility
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        path = Path(out_dir) / filename
        try:
            with whole_file(path) as tmp:
                super().save_checkpoint(str(tmp.parent), tmp.name, *args, **kwargs)
        except OSError as error:
            raise OSError(
                error.errno,
                f'checkpoint not written ({error.strerror}), earlier checkpoints are intact; '
                'free some space and continue with --resume (resume=True in a config)',
                str(path),
            ) from error
