# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The folder with the results of a detection, and which of them exist already."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmface.apis.detect.base import Render, describe
from mmface.apis.detect.crops import CropWriter
from mmface.structures import Face
from mmface.utils.files import remove_leftovers, write_text
from mmface.utils.images import Image, write_image
from mmface.utils.sources import Source, result_path

SETTINGS = 'settings.json'


class Results:
    """The results folder: paths of the results, and which results exist.

    A result counts if it is newer than its source and than ``settings.json``. That file records
    the settings of the results in the folder. A run with other settings raises an error.

    Args:
        folder: Folder for the results.
        model: Files of the model, or the name of a config.
        settings: What else decides the content of the results, as JSON values by name.
        render: Draws the faces into an image, or hides them.
        json: Whether boxes, scores and keypoints are also written.
        overwrite: Whether existing results are replaced.
        crops: Writes the faces of images, if they are wanted.

    Raises:
        ValueError: The folder holds results with other settings, or its ``settings.json`` cannot
            be read.
    """

    def __init__(
        self,
        folder: Path,
        model: Sequence[str | Path],
        settings: Mapping[str, Any],
        render: Render,
        json: bool = False,
        overwrite: bool = False,
        crops: CropWriter | None = None,
    ) -> None:
        self.folder = folder
        self.crops = crops
        self.json = json
        self.render = render
        files = [Path(file) for file in model]
        now = {
            'model': [str(file.resolve()) if file.is_file() else str(file) for file in files],
            'modified': [file.stat().st_mtime for file in files if file.is_file()],
            **settings,
            'json': json,
        }
        self._note = folder / SETTINGS
        before = None if overwrite else _read_settings(self._note)
        if before is not None and before != now:
            keys = [*now, *(key for key in before if key not in now)]
            changed = [key for key in keys if before.get(key) != now.get(key)]
            raise ValueError(
                f'the results in {folder} were made with other settings ({", ".join(changed)}): '
                'use the same settings, name another folder, or overwrite the existing results'
            )
        self._fresh = before is None
        self._settings = now

    def begin(self) -> None:
        """Write the settings. If they are new, earlier results do not count."""
        remove_leftovers(self.folder, recursive=True)
        if self._fresh:
            write_text(self._note, json.dumps(self._settings, indent=2) + '\n')
            self._fresh = False

    def targets(self, source: Source) -> list[Path]:
        """List the files that are written for ``source``.

        Raises:
            ValueError: One of them is ``source`` itself.
        """
        main = result_path(source, self.folder)
        if not self.json:
            return [main]
        suffix = '.jsonl' if source.is_video else '.json'
        return [main, self.folder / source.name.with_name(source.name.name + suffix)]

    def camera_targets(self, number: int) -> list[Path]:
        """List the files that are written for a camera. Each call returns unused names."""
        for i in itertools.count():
            name = Path(f'camera_{number}_{i}.mp4')
            targets = self.targets(Source(Path('camera.mp4'), name, 'video'))
            if not any(path.exists() for path in targets):
                return targets
        raise AssertionError

    def done(self, source: Source) -> bool:
        """Return whether all result files of ``source`` exist and are up to date."""
        return self.up_to_date(self.targets(source), source.path)

    def up_to_date(self, targets: Sequence[Path], source: Path | None) -> bool:
        """Return whether all ``targets`` exist and are newer than the settings and ``source``."""
        if self._fresh:
            return False
        files = (self._note,) if source is None else (self._note, source)
        since = max(file.stat().st_mtime_ns for file in files)
        stats = [path.stat() for path in targets if path.is_file()]
        return len(stats) == len(targets) and all(
            stat.st_size and stat.st_mtime_ns >= since for stat in stats
        )

    def check_unique(self, sources: Sequence[Source]) -> None:
        """Check that no two sources have a result file in common.

        Raises:
            ValueError: Two sources would write the same file.
        """
        owners: dict[Path, Source] = {}
        for source in sources:
            for target in self.targets(source):
                other = owners.setdefault(target, source)
                if other is not source:
                    raise ValueError(
                        f'{other.path} and {source.path} would have the same result, {target}: '
                        'run them one after the other into different folders'
                    )

    def write(self, source: Source, image: Image, faces: Sequence[Face]) -> int:
        """Write all result files of an image.

        Args:
            source: The image.
            image: (H, W, 3) BGR, its pixels.
            faces: The faces in it.

        Returns:
            The number of faces without a crop.

        Raises:
            OSError: A file cannot be written.
        """
        left_out = 0 if self.crops is None else self.crops.write(source.name, image, faces)
        target, *lines = self.targets(source)
        name = source.name.as_posix()
        for path in lines:
            text = describe(image, faces, image=name)
            write_text(path, text, sync=False)
        # The last one, see done().
        write_image(target, self.render(image, faces, name))
        return left_out


def _read_settings(path: Path) -> Mapping[str, Any] | None:
    """Read the settings of the previous run, ``None`` if there was no run.

    Raises:
        ValueError: The file does not hold settings.
    """
    if not path.is_file():
        return None
    try:
        before = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:  # not UTF-8, or not JSON
        before = error
    if not isinstance(before, dict):
        raise ValueError(
            f'{path} does not hold the settings of a run (expected a JSON object, found '
            f'{path.read_bytes()[:40]!r}): name another folder for the results, or overwrite them'
        )
    return before
