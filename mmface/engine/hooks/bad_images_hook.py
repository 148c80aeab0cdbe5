# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The list of images that a training cannot use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import barrier
from mmengine.hooks import Hook

from mmface.datasets.bad_images import NOTE, USED, SkipBadImages, read_note


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Make the datasets of a training list bad images in ``bad_images.txt`` of its work dir.

    The list is emptied at every start, because the images may have been repaired.
    ``FaceRunner`` adds this hook to every run.
    """

    def before_train(self, runner: Any) -> None:
        """Remove the old list and set the folder before a worker reads an image."""
        if runner.rank == 0:
            Path(runner.work_dir, NOTE).unlink(missing_ok=True)
        barrier()
        for dataset in _parts(runner.train_dataloader.dataset):
            if isinstance(dataset, SkipBadImages):
                dataset.note_folder = runner.work_dir

    def after_train(self, runner: Any) -> None:
        """Log how many images could not be used."""
        note = Path(runner.work_dir, NOTE)
        if runner.rank == 0 and note.is_file():
            reasons = read_note(note).values()
            damaged = sum(reason.startswith(USED) for reason in reasons)
            runner.logger.warning(
                f'{len(reasons) - damaged} images could not be used and {damaged} have damaged '
                f'data inside; they are listed in {note}'
            )


def _parts(dataset: Any) -> Iterator[Any]:
    """Iterate over a dataset and the datasets that it wraps."""
    yield dataset
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    for part in inner:
        if part is not None:
            yield from _parts(part)
