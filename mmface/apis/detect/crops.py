# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Write the faces of images as images of their own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from mmface.structures import Face
from mmface.utils.images import Image, write_image


class CropWriter:
    """Writes each face of an image as a PNG file, the best score first.

    The faces of ``photos/a.jpg`` become ``photos/a.jpg.face0.png``, ``photos/a.jpg.face1.png`` ...
    A face that cannot be aligned keeps its number, but has no file.

    Args:
        folder: The folder to write to.
        margin: Extra border on each side, relative to the box.
        align: Size in pixels of aligned faces; ``None`` cuts out the boxes.
    """

    def __init__(self, folder: Path, margin: float = 0.0, align: int | None = None) -> None:
        self.folder = folder
        self.margin = margin
        self.align = align

    def write(self, name: Path, image: Image, faces: Sequence[Face]) -> int:
        """Write the faces of an image, and remove those of an earlier run.

        Args:
            name: Name of the image, relative to the folder of the results.
            image: (H, W, 3) BGR.
            faces: The faces in it.

        Returns:
            The number of faces that have no file, because they cannot be aligned or their box is
            outside of the image.

        Raises:
            OSError: A file cannot be written.
        """
        left_out = 0
        for number, face in enumerate(faces):
            path = self._path(name, number)
            try:
                part = self._cut(image, face)
            except ValueError:
                left_out += 1
                path.unlink(missing_ok=True)
            else:
                write_image(path, part)
        for number in itertools.count(len(faces)):
            try:
                self._path(name, number).unlink()
            except FileNotFoundError:
                return left_out
        raise AssertionError

    def _path(self, name: Path, number: int) -> Path:
        return self.folder / name.with_name(f'{name.name}.face{number}.png')

    def _cut(self, image: Image, face: Face) -> Image:
        if self.align is None:
            return face.crop(image, self.margin)
        return face.align(image, self.align)
