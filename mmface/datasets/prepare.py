# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert WIDER FACE from any layout to the one that all configs read.

The canonical layout is ``{train,val}/images/<event>/*.jpg``, ``{train,val}/labelv2.txt``
and ``val/gt/wider_{face,easy,medium,hard}_val.mat``. :class:`Preparation` first finds and
checks everything. Only :meth:`Preparation.write` changes the output folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from mmface.datasets.face_annotation import FaceAnnotation
from mmface.datasets.label_checks import size_problem
from mmface.datasets.prepare_labels import (
    KINDS,
    MAT_NAMES,
    keep_images,
    kind_of,
    labelv2_text,
    mat_name,
    read_labels,
)
from mmface.datasets.prepare_sources import WIDER_SUFFIXES, SourceFile, scan
from mmface.utils.files import inside, is_safe, remove_leftovers, write_text
from mmface.utils.image_decoding import decode_image
from mmface.utils.image_names import read_part
from mmface.utils.images import image_size
from mmface.utils.progress import progress_bar

SPLITS = ('train', 'val')
"""Names of the splits. The official test split has no labels."""


@dataclass
class Split:
    """What is known about one split.

    Attributes:
        name: ``train`` or ``val``.
        kind: Kind of its label file, see :data:`mmface.datasets.prepare_labels.KINDS`.
        labels: Its label file.
        official: The official label text, if there is one.
        faces: Labels by ``event/name.jpg``.
        images: The listed images that were found.
        sizes: Their width and height, pixels.
        unlisted: Number of images of this split that no label file lists.
        problems: Problems of listed images, ``event/name.jpg: reason``.
    """

    name: str
    kind: str
    labels: SourceFile
    official: SourceFile | None = None
    faces: dict[str, FaceAnnotation] = field(default_factory=dict)
    images: dict[str, SourceFile] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    unlisted: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def keypoints(self) -> int:
        """Number of faces with at least one keypoint."""
        return sum(int((f.keypoints[..., 2] > 0).any(axis=1).sum()) for f in self.faces.values())


class Preparation:
    """Find the parts of a data set and write them to the canonical layout.

    Use it as a context manager, because it keeps archives open.

    Args:
        sources: Folders, zip archives or single label files, in any layout.
        out: Folder to create.
        part: A file with lines ``event/name.jpg``. All other images are skipped.
        progress: Whether to show progress bars.
        decode: Whether to decode every image, to find damaged ones.

    Attributes:
        splits: The splits for which both images and labels were found.
        ground_truth: The ``.mat`` files by canonical name.
        notes: Messages for the user.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: Labels cannot be read or do not belong to the images.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        out: Path,
        part: Path | None = None,
        progress: bool = False,
        decode: bool = False,
    ) -> None:
        self.out = out
        self.progress = progress
        self.part = None if part is None else set(read_part(part))
        self.splits: list[Split] = []
        self.ground_truth: dict[str, SourceFile] = {}
        self.notes: list[str] = []
        self._stack = ExitStack()
        try:
            files = scan(sources, out, self._stack)
            self._images: dict[str, list[SourceFile]] = {}
            for file in files:
                if file.name.lower().endswith(WIDER_SUFFIXES) and len(file.parts) > 1:
                    self._images.setdefault('/'.join(file.parts[-2:]), []).append(file)
            self._by_name: dict[str, list[str]] = {}
            for key in self._images:
                self._by_name.setdefault(key.partition('/')[2], []).append(key)
            if not self._images:
                names = ', '.join(map(str, sources))
                raise ValueError(f'no images <event>/<name>.jpg found in {names}')
            for name in SPLITS:
                self._find_split(name, files)
            self._find_ground_truth(files)
            self._check_part(part)
            self._measure()
            if decode:
                self._decode()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Preparation:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _find_split(self, name: str, files: Sequence[SourceFile]) -> None:
        """Choose the best label file of a split and find its images."""
        labels: dict[str, list[SourceFile]] = {}
        for file in files:
            kind = kind_of(file.name)
            if kind and file.split() == name:
                labels.setdefault(kind, []).append(file)
        kinds = [kind for kind in KINDS[name] if kind in labels]
        seen = [key for key, some in self._images.items() if _of_split(some, name)]
        if not kinds:
            if seen:
                first = self._images[seen[0]][0]
                raise ValueError(
                    f'found {len(seen)} images of {name} ({first}, ...) but no labels: add '
                    f'wider_face_split.zip, or a labelv2.txt in a folder named {name}'
                )
            return
        split = Split(name, kinds[0], _only(labels[kinds[0]]))
        if 'bbx_gt' in labels:
            split.official = _only(labels['bbx_gt'])
        split.faces = self._faces(split.labels, split.kind)
        for kind in kinds[1:]:
            if any(len(face.bboxes) for face in split.faces.values()):
                break
            # A list of names, such as CenterFace's labels/val/label.txt.
            self._fill(split, kind, _only(labels[kind]))
        for key in split.faces:
            candidates = self._images.get(key, [])
            own = [c for c in candidates if c.split(folders_only=2) in (name, None)]
            # Files in a folder with the name of the split come before all other files.
            own.sort(key=lambda c: c.split(folders_only=2) is None)
            if own:
                split.images[key] = own[0]
            else:
                split.problems.append(f'{key}: missing')
        split.unlisted = sum(key not in split.faces for key in seen)
        if split.images:
            self.splits.append(split)
        elif split.faces:
            self.notes.append(f'{name}: {split.labels} has labels, but no images were found')

    def _faces(self, labels: SourceFile, kind: str) -> dict[str, FaceAnnotation]:
        """Read the faces of each image, without images that are not in ``part``."""
        faces: dict[str, FaceAnnotation] = {}
        for face in self._read(labels, kind):
            key = self._key(face.path, labels)
            if key in faces:
                raise ValueError(f'{labels}: {face.path!r} and another entry are both {key}')
            if self.part is None or key in self.part:
                faces[key] = face
        return faces

    def _fill(self, split: Split, kind: str, labels: SourceFile) -> None:
        """Take the faces of the listed images from another file."""
        # The .mat files have no suffixes.
        others = {key.rpartition('.')[0]: face for key, face in self._faces(labels, kind).items()}
        found = {key: others.get(key.rpartition('.')[0]) for key in split.faces}
        filled = {
            key: face._replace(path=split.faces[key].path)
            for key, face in found.items()
            if face is not None
        }
        if any(len(face.bboxes) for face in filled.values()):
            self.notes.append(
                f'{split.name}: {split.labels} lists {len(split.faces)} images without faces; the '
                f'faces of {len(filled)} of them are from {labels}'
            )
            split.faces |= filled
            split.kind, split.labels = kind, labels

    def _key(self, path: str, labels: SourceFile) -> str:
        """Return the canonical ``event/name.jpg`` for a path in a label file."""
        parts = tuple(path.split('/'))
        if len(parts) == 1 and is_safe(parts):  # only a name: look up its folder
            found = self._by_name.get(path, [])
            if len(found) == 1:
                return found[0]
        if len(parts) < 2 or not is_safe(parts):
            raise ValueError(f'{labels}: expected event/name.jpg, found {path[:120]!r}')
        return '/'.join(parts[-2:])

    def _find_ground_truth(self, files: Sequence[SourceFile]) -> None:
        """Take the ``.mat`` files from the folder that contains most of them."""
        folders: dict[str, dict[str, SourceFile]] = {}
        for file in files:
            name = mat_name(file.name)
            if name:
                folders.setdefault(str(Path(str(file)).parent), {})[name] = file
        for folder in sorted(folders.values(), key=len, reverse=True):
            self.ground_truth = {**folder, **self.ground_truth}
        missing = [name for name in MAT_NAMES if name not in self.ground_truth]
        if any(split.name == 'val' for split in self.splits) and missing:
            self.notes.append(
                f'no {", ".join(missing)}: without them WIDER FACE AP cannot be computed; '
                'they are in the official eval_tools.zip'
            )

    def _check_part(self, part: Path | None) -> None:
        if self.part is None:
            return
        known = {key for split in self.splits for key in split.faces}
        unknown = sorted(self.part - known)
        if unknown:
            raise ValueError(
                f'{part} names {len(unknown)} images that no label file lists or whose split '
                f'has no images, such as {unknown[0]!r}'
            )

    def _measure(self) -> None:
        """Read the size of every image and compare it with the labels."""
        total = sum(len(split.images) for split in self.splits)
        with progress_bar(total=total, desc='checking', show=self.progress) as bar:
            for split in self.splits:
                for key, file in split.images.items():
                    bar.update()
                    try:
                        with file.open() as handle:
                            split.sizes[key] = image_size(handle)
                    except (OSError, ValueError, EOFError):
                        split.problems.append(f'{key}: {file} is not a readable image')
                        continue
                    stated = (split.faces[key].width, split.faces[key].height)
                    if stated != (0, 0) and stated != split.sizes[key]:
                        split.problems.append(size_problem(key, stated, split.sizes[key]))
        val = next((split for split in self.splits if split.name == 'val'), None)
        if val is not None and MAT_NAMES[0] in self.ground_truth:
            mat = self.ground_truth[MAT_NAMES[0]]
            known = {face.path.rpartition('.')[0] for face in self._read(mat, 'mat')}
            strange = [key for key in val.faces if key.rpartition('.')[0] not in known]
            val.problems += [f'{key}: not in {mat}' for key in strange]

    def _decode(self) -> None:
        """Decode all images, several at a time, and list those that are damaged."""
        work = [
            (split, key, file)
            for split in self.splits
            for key, file in split.images.items()
            if key in split.sizes
        ]
        with (
            ThreadPoolExecutor() as pool,
            progress_bar(total=len(work), desc='decoding', show=self.progress) as bar,
        ):
            for (split, key, _), (problem, damage) in zip(
                work, pool.map(_decode_file, [file for *_, file in work]), strict=True
            ):
                bar.update()
                split.problems += [f'{key}: {problem}'] if problem else []
                self.notes += damage

    def _read(self, file: SourceFile, kind: str) -> list[FaceAnnotation]:
        """Read labels. Files in archives are copied first: parsers need a file on disk."""
        if file.member is None:
            found = read_labels(file.path, kind)
            self.notes += found.notes
            return found.images
        with TemporaryDirectory(prefix='mmface_') as folder:
            copy = Path(folder, file.name)
            file.place(copy, copy=True)
            try:
                found = read_labels(copy, kind)
            except ValueError as error:
                raise ValueError(str(error).replace(str(copy), str(file))) from error
        self.notes += [note.replace(str(copy), str(file)) for note in found.notes]
        return found.images

    @property
    def problems(self) -> list[str]:
        """All problems that make the data unusable."""
        return [f'{split.name}: {text}' for split in self.splits for text in split.problems]

    def write(self, copy: bool = False) -> None:
        """Write the canonical layout, and ``<split>/part.txt`` if only a part is used.

        Args:
            copy: Whether to copy images even where a link would be possible.

        Raises:
            ValueError: There are problems, or files with other content already exist.
        """
        if self.problems:
            raise ValueError(f'{len(self.problems)} problems, first: {self.problems[0]}')
        remove_leftovers(self.out, recursive=True)
        total = sum(len(split.images) for split in self.splits)
        with progress_bar(total=total, desc='writing', show=self.progress) as bar:
            for split in self.splits:
                folder = self.out / split.name
                for key, file in split.images.items():
                    file.place(inside(folder / 'images', key), copy)
                    bar.update()
                self._write_labels(split, folder)
                if self.part is not None:
                    # The ground truth lists all images. Evaluation reads here which ones exist.
                    _write_new(folder / 'part.txt', ''.join(f'{key}\n' for key in split.images))
        if any(split.name == 'val' for split in self.splits):
            for name, file in self.ground_truth.items():
                file.place(self.out / 'val' / 'gt' / name, copy=True)

    def _write_labels(self, split: Split, folder: Path) -> None:
        same_names = all(key == face.path for key, face in split.faces.items())
        if split.official is not None:
            text = _decode(split.official.read_bytes())
            keys = (
                {face.path for face in split.faces.values()}
                if split.kind == 'bbx_gt'
                else set(split.faces)
            )
            _write_new(
                folder / f'wider_face_{split.name}_bbx_gt.txt',
                text if self.part is None else keep_images(text, keys),
            )
        if split.kind == 'labelv2' and same_names:
            text = _decode(split.labels.read_bytes())
            text = text if self.part is None else keep_images(text, split.faces)
        else:
            text = labelv2_text(split.faces, split.sizes, split.name)
        _write_new(folder / 'labelv2.txt', text)


def _decode_file(file: SourceFile) -> tuple[str, list[str]]:
    """Return what makes an image unusable, if anything does, and what is damaged inside."""
    damage: list[str] = []
    try:
        decode_image(file.read_bytes(), str(file), damage.append)
    except (ValueError, OSError) as error:
        return str(error), []
    return '', damage


def _of_split(files: Sequence[SourceFile], name: str) -> bool:
    return any(file.split(folders_only=2) == name for file in files)


def _only(files: Sequence[SourceFile]) -> SourceFile:
    """Return the only label file of a kind. Identical copies of it do not count."""
    if len(files) > 1 and len({file.read_bytes() for file in files}) > 1:
        names = ', '.join(map(str, files))
        raise ValueError(f'several different label files: {names}; pass only one of them')
    return files[0]


def _decode(raw: bytes) -> str:
    return re.sub('\r\n?', '\n', raw.decode('utf-8', 'surrogateescape').lstrip('\ufeff'))


def _write_new(target: Path, text: str) -> None:
    if target.exists():
        if target.read_bytes().replace(b'\r\n', b'\n') == text.encode('utf-8', 'surrogateescape'):
            return
        raise ValueError(
            f'{target} exists with other content: remove it, or choose another output folder'
        )
    write_text(target, text)
