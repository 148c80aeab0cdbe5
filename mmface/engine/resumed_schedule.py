# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The schedule of a resumed run follows its config.

mmengine restores every attribute of a scheduler from the checkpoint, its ``end`` and milestones
too. So a run that is extended on resume keeps the schedule of the shorter run. Here a checkpoint
says only how far a run is. If its schedule differs from that of the config, the schedule of the
config is played from the start to that position, without training.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.optim import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS

#: Attributes of a scheduler that are not settings: they count its progress.
PROGRESS = {
    'optimizer', 'kind', 'verbose', 'last_step', '_global_step', '_last_value', 'base_values',
    'best', 'num_bad_epochs', 'cooldown_counter',
}  # fmt: skip

#: Options of optimizers that tell their classes apart.
KIND_OPTIONS = {'betas', 'momentum', 'alpha'}


def mark_kinds(schedulers: Iterable[_ParamScheduler]) -> None:
    """Store the class names in the schedulers, so that checkpoints contain them."""
    for scheduler in schedulers:
        scheduler.kind = type(scheduler).__name__


class ResumedSchedule:
    """The learning rate and the schedulers of a config, kept while a checkpoint is loaded.

    Args:
        optimizer: The optimizer of the config, before the checkpoint is loaded.
        schedulers: Its schedulers, which have not been stepped.
        reset_lr: Whether to take the base learning rate of the config.
        reset_schedule: Whether to take all of the config: the learning rate, other options of
            the optimizer such as the weight decay, and the classes of the schedulers.
    """

    def __init__(
        self,
        optimizer: Any,
        schedulers: Sequence[_ParamScheduler],
        reset_lr: bool = False,
        reset_schedule: bool = False,
    ) -> None:
        self.groups = [_options(group) for group in optimizer.param_groups]
        self.schedulers = list(schedulers)
        self.reset_lr = reset_lr or reset_schedule
        self.reset_schedule = reset_schedule
        self.warnings: list[str] = []
        self._saved: Sequence[dict[str, Any]] = []
        #: What was taken from the config, one entry for each change.
        self.changes: list[str] = []

    @classmethod
    def of(cls, runner: Any) -> ResumedSchedule | None:
        """Return the schedule of a runner's config, before the runner loads a checkpoint.

        ``reset_lr=True`` and ``reset_schedule=True`` in the config are the parameters.

        Returns:
            None if there are several optimizers. mmengine then restores all settings.
        """
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        schedulers = runner.param_schedulers
        if schedulers is not None:
            schedulers = runner.param_schedulers = runner.build_param_scheduler(schedulers)
        if isinstance(schedulers, dict):
            return None
        resets = {key: bool(runner.cfg.get(key)) for key in ('reset_lr', 'reset_schedule')}
        return cls(runner.optim_wrapper, schedulers or [], **resets)

    def check(self, checkpoint: Mapping[str, Any], source: str) -> None:
        """Check, before it is loaded, that a checkpoint is from the same kind of optimizer.

        Args:
            checkpoint: Its ``param_schedulers`` are kept for ``resume``.
            source: Name of the checkpoint in messages.

        Raises:
            ValueError: It is from another kind.
        """
        self._saved = checkpoint.get('param_schedulers', [])
        state = checkpoint['optimizer']
        groups = state.get('param_groups') if isinstance(state, dict) else None
        for group, planned in zip(groups or (), self.groups, strict=False):
            # Options that only some classes have: momentum of SGD, betas of Adam.
            differing = sorted(KIND_OPTIONS & (planned.keys() ^ group.keys()))
            if differing:
                raise ValueError(
                    f'{source} is from another class of optimizer than that of the config (only '
                    f'one of them has {", ".join(differing)}); start a new run from its weights '
                    'with load_from'
                )

    def resume(self, runner: Any) -> None:
        """Continue the schedule in a runner that has loaded everything else, and log changes."""
        loop = runner.train_loop
        runner.param_schedulers = self.apply(
            runner.optim_wrapper, self._saved, loop.iter, loop.epoch, len(loop.dataloader)
        )
        for warning in self.warnings:
            runner.logger.warning(warning)
        if self.changes:
            runner.logger.info(f'From the config: {"; ".join(self.changes)}')

    def apply(
        self,
        optimizer: Any,
        saved: Sequence[dict[str, Any]],
        iterations: int,
        epochs: int,
        epoch_length: int,
    ) -> list[_ParamScheduler]:
        """Continue the schedule after the optimizer was loaded from the checkpoint.

        Args:
            optimizer: Changed in place.
            saved: States of the schedulers in the checkpoint.
            iterations: Iterations of the run so far.
            epochs: Complete epochs of the run so far.
            epoch_length: Iterations of an epoch.

        Returns:
            The schedulers of the run.
        """
        groups = optimizer.param_groups
        self._check_options(groups)
        lr_changed = self._take_lr(groups)
        kinds = [state.get('kind') for state in saved]
        own = [type(scheduler).__name__ for scheduler in self.schedulers]
        fits = len(saved) == len(own) and all(
            kind == name if kind else _settings(state).keys() == _settings(vars(scheduler)).keys()
            for kind, name, state, scheduler in zip(kinds, own, saved, self.schedulers, strict=True)
        )
        if not fits and not self.reset_schedule:
            kept = _rebuild(saved, optimizer, self.schedulers)
            now = f'({", ".join(own) or "none"}; reset_schedule takes them)'
            if kept is not None:
                names = ', '.join(map(str, kinds)) or 'none'
                self.warnings.append(
                    f'this run keeps its schedulers {names}; the config has others {now}'
                )
                if lr_changed:
                    _play(kept, groups, iterations, epochs, epoch_length)
                return kept
            self.warnings.append(
                'the schedulers of the checkpoint are of other, unknown classes: those of the '
                f'config are used ({", ".join(own) or "none"})'
            )
        if fits:
            for scheduler, state in zip(self.schedulers, saved, strict=True):
                self.changes += _differences(scheduler, state)
        if fits and not self.changes and not lr_changed:
            for scheduler, state in zip(self.schedulers, saved, strict=True):
                scheduler.load_state_dict(state)
        elif fits and any(hasattr(scheduler, 'need_val_args') for scheduler in self.schedulers):
            # The course of such a scheduler depends on validations: only its settings change.
            for scheduler, state in zip(self.schedulers, saved, strict=True):
                progress = {key: value for key, value in state.items() if key in PROGRESS}
                scheduler.load_state_dict(progress)
        else:
            if not fits:
                self.changes.append(f'schedulers {", ".join(own) or "none"}')
            _play(self.schedulers, groups, iterations, epochs, epoch_length)
        return self.schedulers

    def _check_options(self, groups: list[dict[str, Any]]) -> None:
        """Compare options such as the weight decay, and take them with ``reset_schedule``."""
        scheduled = {'lr', *(scheduler.param_name for scheduler in self.schedulers)}
        for group, planned in zip(groups, self.groups, strict=True):
            for name in sorted(planned.keys() & group.keys()):
                change = f'{name} {group[name]} -> {planned[name]}'
                if name.removeprefix('initial_') in scheduled or planned[name] == group[name]:
                    continue
                if self.reset_schedule:
                    group[name] = planned[name]
                    self._note(self.changes, change)
                else:
                    self._note(
                        self.warnings,
                        f'this run keeps {name} {group[name]}; the config has {planned[name]} '
                        '(reset_schedule takes it)',
                    )

    def _take_lr(self, groups: list[dict[str, Any]]) -> bool:
        """Compare the base learning rates. Return whether those of the config were taken."""
        taken = False
        for group, planned in zip(groups, self.groups, strict=True):
            before, now = (g.get('initial_lr', g['lr']) for g in (group, planned))
            if before == now:
                continue
            if not self.reset_lr:
                self._note(
                    self.warnings,
                    f'this run keeps its learning rate {before:g}; the config has {now:g} '
                    '(reset_lr or --lr takes it)',
                )
                continue
            taken = True
            group['initial_lr' if 'initial_lr' in group else 'lr'] = now
            self._note(self.changes, f'lr {before:g} -> {now:g}')
            for name in {'max_lr', 'min_lr'} & planned.keys():  # of OneCycleLR
                group[name] = planned[name]
        return taken

    @staticmethod
    def _note(notes: list[str], text: str) -> None:
        if text not in notes:  # once for all groups
            notes.append(text)


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != 'params'}


def _settings(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in PROGRESS}


def _differences(scheduler: _ParamScheduler, state: dict[str, Any]) -> list[str]:
    """Return the settings of a scheduler that differ in the checkpoint."""
    now, before = _settings(vars(scheduler)), _settings(state)
    return [
        f'{type(scheduler).__name__} {key} {_text(before.get(key))} -> {_text(now[key])}'
        for key in sorted(now)
        if now[key] != before.get(key)
    ]


def _text(value: Any) -> str:
    return str(sorted(value) if isinstance(value, dict) else value)


def _rebuild(
    saved: Sequence[dict[str, Any]], optimizer: Any, built: Sequence[_ParamScheduler]
) -> list[_ParamScheduler] | None:
    """Make the schedulers of a checkpoint. Return None if it does not name known classes."""
    # Only names that are registered: `PARAM_SCHEDULERS.get` would import anything.
    known = PARAM_SCHEDULERS.module_dict
    if not all(state.get('kind') in known for state in saved) or not (built or not saved):
        return None
    schedulers = []
    for state in saved:
        scheduler = object.__new__(known[state['kind']])
        scheduler.__dict__.update(state, optimizer=optimizer)
        schedulers.append(scheduler)
    return schedulers


class _Groups:
    """An optimizer as a scheduler sees it: option groups without parameters."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.param_groups = groups
        self._global_step = 0

    def step(self) -> None:
        """Do nothing. A scheduler looks for a mark of this method."""

    step._with_counter = True  # type: ignore[attr-defined]


def _play(
    schedulers: Sequence[_ParamScheduler],
    groups: list[dict[str, Any]],
    iterations: int,
    epochs: int,
    epoch_length: int,
) -> None:
    """Set schedulers and groups to their state after some iterations and epochs."""
    names = {scheduler.param_name for scheduler in schedulers}
    # There may be a group for each parameter. Groups of the same options have the same course.
    keys = [repr(sorted(_options(group).items(), key=str)) for group in groups]
    for group in groups:
        for name in names:
            group[name] = group[f'initial_{name}']
    unique = list(dict.fromkeys(keys))
    played = [copy.deepcopy(_options(groups[keys.index(key)])) for key in unique]
    stand_in = _Groups(played)
    for scheduler in schedulers:
        scheduler.__dict__['real'], scheduler.optimizer = scheduler.optimizer, stand_in
        scheduler.base_values = [group[f'initial_{scheduler.param_name}'] for group in played]
        scheduler.last_step = scheduler._global_step = -1
        scheduler.step()  # as its constructor does
    by_epoch = [scheduler for scheduler in schedulers if scheduler.by_epoch]
    by_iteration = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
    if not 0 <= iterations - epochs * epoch_length <= epoch_length:  # another batch size before
        epoch_length = iterations // max(epochs, 1)
    for _ in range(epochs):
        _advance(by_iteration, epoch_length)
        _advance(by_epoch, 1)
    _advance(by_iteration, iterations - epochs * epoch_length)
    for group, key in zip(groups, keys, strict=True):
        for name in names:
            group[name] = played[unique.index(key)][name]
    for scheduler in schedulers:
        name = scheduler.param_name
        scheduler.optimizer = scheduler.__dict__.pop('real')
        scheduler.base_values = [group[f'initial_{name}'] for group in groups]
        scheduler._last_value = [group[name] for group in groups]


def _advance(schedulers: Sequence[_ParamScheduler], steps: int) -> None:
    for _ in range(steps):
        for scheduler in schedulers:
            if scheduler._global_step + 1 < scheduler.end:
                scheduler.step()
            else:  # over: the value stays
                scheduler._global_step += 1
