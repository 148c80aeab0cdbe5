# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Base class of hooks that compare the model with its data sets."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook


class DataCheckHook(Hook):
    """Base class of hooks that compare the model with its data sets before they are used.

    Training data and validation data are checked before the training, test data before the test.
    A checkpoint that is tested keeps the names of its training data, which are compared too.

    Raises:
        ValueError: At one of these starts, if they do not fit.
    """

    #: Entry of the data sets' ``metainfo`` with the names.
    names = ''
    #: What to do if the names differ.
    remedy = ''

    def __init__(self) -> None:
        self._trained: dict[str, Any] = {}

    def before_train(self, runner: Any) -> None:
        """Check the model against the data for training and validation."""
        train = runner.train_dataloader.dataset
        self.check(runner.model, train, training=True)
        if runner.val_loop is not None:
            self.before_val(runner)
            self.compare(train, metainfo(runner.val_dataloader.dataset), 'the validation data')

    def before_val(self, runner: Any) -> None:
        """Check the model against the data for validation."""
        self.check(runner.model, runner.val_dataloader.dataset, training=False)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Keep what the checkpoint says about its training data."""
        meta = checkpoint.get('meta')
        found = meta.get('dataset_meta') if isinstance(meta, dict) else None
        self._trained = found if isinstance(found, dict) else {}

    def before_test(self, runner: Any) -> None:
        """Check the model and its checkpoint against the data for the test."""
        dataset = runner.test_dataloader.dataset
        self.check(runner.model, dataset, training=False)
        self.compare(dataset, self._trained, 'the training data of the checkpoint')

    def check(self, model: Any, dataset: Any, training: bool) -> None:
        """Compare the numbers of a model and a data set.

        Raises:
            ValueError: They differ.
        """
        raise NotImplementedError

    def compare(self, dataset: Any, other: dict[str, Any], place: str) -> None:
        """Compare the names of a data set and of other data.

        Raises:
            ValueError: Both have several names, and these or their order differ.
        """
        ours, theirs = (tuple(meta.get(self.names) or ()) for meta in (metainfo(dataset), other))
        if len(ours) > 1 and len(theirs) > 1 and ours != theirs:
            raise ValueError(
                f'the {self.names} of {type(dataset).__name__} are {", ".join(ours[:5])}, those '
                f'of {place} {", ".join(map(str, theirs[:5]))}: '
                f'{self.remedy}'
            )


def metainfo(dataset: Any) -> dict[str, Any]:
    """Return what a data set says about itself."""
    return getattr(dataset, 'metainfo', {})


def place_of(name: str) -> str:
    """Return the config key of a module of the model."""
    parts = (part for part in name.split('.') if not part.isdecimal())
    return 'model.' + '.'.join(parts).removeprefix('module.')
