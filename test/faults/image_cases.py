# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Images that cannot be read, in trainings of three epochs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from case import Case, Outcome
from toy_run import RARELY, ToyRun, last_error, make_data, same_weights, weights

from mmface.datasets.bad_images import NOTE
from mmface.utils.images import write_image


def cut(path: Path) -> None:
    """Keep the first half of the file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def lose_end_marker(path: Path) -> None:
    """Remove the last two bytes."""
    path.write_bytes(path.read_bytes()[:-2])


def damage_inside(path: Path) -> None:
    """Overwrite the middle of the file."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + middle // 2] = bytes(middle // 2)
    path.write_bytes(data)


def replace_by_text(path: Path) -> None:
    """Write what a server says in place of a file."""
    path.write_text('<html>404</html>')


def resize(path: Path) -> None:
    """Write an image of another size than the labels say."""
    write_image(path, np.zeros((50, 90, 3), np.uint8))


def bad_image(spoil: Callable[[Path], object], listed: str, allowed: int = 1):
    """Return a case: one image is spoilt before the run.

    Args:
        spoil: Spoils the file.
        listed: Regular expression of the line in the list; empty if the image is used as it is.
        allowed: ``max_bad_images``; 0 if the run has to end with an error.
    """

    def case(folder: Path) -> Outcome:
        data = make_data(folder)
        path = sorted((data / 'train/images').glob('*/*.jpg'))[3]
        spoil(path)
        option = f'train_dataloader.dataset.max_bad_images={allowed}'
        runs = []
        for name in ('a', 'b'):  # the same image takes the place both times
            runs.append(ToyRun(data, folder / name, options=[option, *RARELY]))
            status = runs[-1].end()
            if not allowed:
                named = path.name in last_error(runs[-1].text)
                return Outcome(int(status == 2 and named), last_error(runs[-1].text))
        note = runs[0].work_dir / NOTE
        lines = note.read_text().splitlines() if note.is_file() else []
        good = len(lines) == bool(listed) and all(re.search(listed, line) for line in lines)
        good &= same_weights(*(weights(run.work_dir) for run in runs))
        return Outcome(int(good and status == 0), lines[0].split('\t')[1] if lines else 'none')

    return case


CASES = [
    Case('image missing, 3 epochs', 1, bad_image(Path.unlink, 'does not exist')),
    Case('image cut in the middle, 3 epochs', 1, bad_image(cut, 'cut before its end')),
    Case('image without end marker, 3 epochs', 1, bad_image(lose_end_marker, '')),
    Case('image damaged inside, 3 epochs', 1, bad_image(damage_inside, 'used, but .*damaged')),
    Case('image replaced by text, 3 epochs', 1, bad_image(replace_by_text, 'cannot be read')),
    Case('image of another size than its labels', 1, bad_image(resize, 'labels are for')),
    Case('image cut, none allowed', 1, bad_image(cut, '', allowed=0)),
]
