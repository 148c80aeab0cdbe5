# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Let a training run continue when a few images cannot be used, by using other images."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmface.utils.epoch_index import EpochIndex
from mmface.utils.image_decoding import BadImage

NOTE = 'bad_images.txt'
#: Beginning of the reason of an image that is used although its data are damaged.
USED = 'used, but '


class SkipBadImages:
    """A data set mixin (placed before ``BaseDataset``) that tolerates a few bad images.

    In training, an image that cannot be used is replaced by the next usable one, so that a
    resumed run sees the same images. The name and the reason are logged and appended to
    ``bad_images.txt`` in ``note_folder``, which all workers and ranks share. In testing, every
    bad image is an error, because the average precision without it would be wrong. If
    ``max_bad_images`` is above 0, images with damaged data inside are used with a warning.
    Training always uses them; the list names them as well, but they do not count.

    Attributes:
        note_folder: Folder of the list, set by the runner. If None, the list stays in memory.

    Args:
        *args: Passed on to the data set.
        max_bad_images: Maximum number of bad images before training stops with an error. A value
            below 1 is a fraction of the data set.
        **kwargs: Passed on to the data set.
    """

    note_folder: str | None = None
    test_mode: bool
    ann_file: str

    def __init__(self, *args: Any, max_bad_images: float = 0, **kwargs: Any) -> None:
        if max_bad_images < 0:
            raise ValueError(f'max_bad_images: expected 0 or more, found {max_bad_images}')
        self.max_bad_images = max_bad_images
        self._bad: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return an item, with a flag that says whether damaged images are refused."""
        item = super().get_data_info(idx)  # type: ignore[misc]
        item['refuse_damaged'] = self.test_mode and not self.max_bad_images
        item['note_folder'] = self.note_folder
        return item

    def prepare_data(self, idx: int) -> Any:
        """Return the sample of an index, or of the next index whose image can be used.

        Raises:
            ValueError: Too many images cannot be used.
        """
        first, count = idx, len(self)  # type: ignore[arg-type]
        while True:
            try:
                return super().prepare_data(idx)  # type: ignore[misc]
            except (BadImage, FileNotFoundError) as error:
                if self.test_mode or not self.max_bad_images:
                    raise
                self.note_bad(str(super().get_data_info(idx)['img_path']), error)  # type: ignore[misc]
            following = (int(idx) + 1) % count
            if following == int(first):
                raise ValueError(f'{self.ann_file}: none of the {count} images can be used')
            # The random draws are still those of the sample's own index.
            idx = idx.moved(following) if isinstance(idx, EpochIndex) else following

    def check_missing(self, missing: Sequence[str], total: int, place: str) -> None:
        """Raise an error if more images are missing than may be bad; log a smaller number.

        Args:
            missing: Names of the missing images.
            total: Number of all images.
            place: Where they are expected, and the remedy.

        Raises:
            FileNotFoundError: Too many images are missing, or at least one in testing.
        """
        if not missing:
            return
        text = (
            f'{len(missing)} of the {total} images in {self.ann_file} are missing, the first is '
            f'{missing[0]!r}'
        )
        if self.test_mode or len(missing) > self.limit(total):
            raise FileNotFoundError(f'{text}. Expected in {place}')
        _log(f'{text}; other images are used instead')

    def limit(self, total: int) -> int:
        """Return the maximum number of bad images among ``total``."""
        share = self.max_bad_images < 1
        return int(self.max_bad_images * total) if share else int(self.max_bad_images)

    def note_bad(self, path: str, reason: BaseException | str) -> None:
        """Record an image that cannot be used.

        Raises:
            ValueError: More images are bad than ``max_bad_images`` allows.
        """
        if path in self._bad:
            return
        text = ' '.join(str(reason).split())
        self._bad[path] = text
        place = self.ann_file
        if self.note_folder is not None:
            note = Path(self.note_folder, NOTE)
            known = read_note(note)
            self._bad |= {name: why for name, why in known.items() if not why.startswith(USED)}
            if path not in known:
                _append(note, f'{path}\t{text}\n')
                _log(f'an image cannot be used, another is used instead: {text}')
            place = str(note)
        else:
            _log(f'an image cannot be used, another is used instead: {text}')
        total = len(self)  # type: ignore[arg-type]
        if len(self._bad) > self.limit(total):
            raise ValueError(
                f'{len(self._bad)} of {total} images cannot be used, and max_bad_images='
                f'{self.max_bad_images:g} allows {self.limit(total)}. They are listed in {place}; '
                f'the last: {text}. Repair them or remove them from the labels'
            )


@lru_cache(4096)  # once for each image and process
def note_damaged(folder: str, path: str, message: str) -> None:
    """Log an image that is used although its data are damaged, and append it to the list."""
    note = Path(folder, NOTE)
    if path not in read_note(note):
        _append(note, f'{path}\t{USED}{" ".join(message.split())}\n')
        _log(message)


def read_note(note: Path) -> dict[str, str]:
    """Return the reason for each image in the list."""
    if not note.is_file():
        return {}
    lines = note.read_text(encoding='utf-8', errors='surrogateescape').splitlines()
    return dict(line.partition('\t')[::2] for line in lines)


def _append(path: Path, line: str) -> None:
    """Append a line in one write, so that several processes can do so at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, line.encode('utf-8', 'surrogateescape'))
    finally:
        os.close(file)


def _log(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
