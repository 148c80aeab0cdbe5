# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find faces in files and write the results. Torch is not needed."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from mmface.apis.video import Frame, VideoReader, open_video
from mmface.structures import Face
from mmface.utils.cli import one_line
from mmface.utils.draw import blur_faces, mark_faces
from mmface.utils.files import remove_leftovers, whole_file, write_text
from mmface.utils.images import Image, Source, read_image, result_path, write_image
from mmface.utils.progress import progress_bar

Detector = Callable[[list[Image]], list[list[Face]]]
Render = Callable[[Image, Sequence[Face]], Image]
T = TypeVar('T')

SETTINGS = 'settings.json'
#: Errors that OpenCV, onnxruntime and torch can raise on an unusual image.
IMAGE_ERRORS = (ValueError, OSError, RuntimeError, MemoryError, cv2.error)


class Results:
    """The results folder: paths of the results, and which results exist.

    A result counts if it is newer than its source and than ``settings.json``. That file records
    the settings of the results in the folder. A run with other settings raises an error.

    Args:
        folder: Folder for the results.
        model: Files of the model, or the name of a config.
        score_thr: Lowest score of a face.
        blur: Whether faces are blurred instead of marked.
        json: Whether boxes, scores and keypoints are also written.
        overwrite: Whether existing results are replaced.

    Raises:
        ValueError: The folder holds results with other settings, or its ``settings.json`` cannot
            be read.
    """

    def __init__(
        self,
        folder: Path,
        model: Sequence[str | Path],
        score_thr: float,
        blur: bool = False,
        json: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.folder = folder
        self.json = json
        self.render: Render = blur_faces if blur else mark_faces
        files = [Path(file) for file in model]
        now = {
            'model': [str(file.resolve()) if file.is_file() else str(file) for file in files],
            'modified': [file.stat().st_mtime for file in files if file.is_file()],
            'score_thr': score_thr,
            'blur': blur,
            'json': json,
        }
        self._note = folder / SETTINGS
        before = None if overwrite else _read_settings(self._note)
        if before is not None and before != now:
            changed = [key for key in now if before.get(key) != now[key]]
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
        name = source.name
        if source.is_video and name.suffix.lower() != '.mp4':
            name = name.with_name(f'{name.name}.mp4')
        main = result_path(Source(source.path, name), self.folder)
        if not self.json:
            return [main]
        suffix = '.jsonl' if source.is_video else '.json'
        return [main, self.folder / source.name.with_name(source.name.name + suffix)]

    def camera_targets(self, number: int) -> list[Path]:
        """List the files that are written for a camera. Each call returns unused names."""
        for i in itertools.count():
            name = Path(f'camera_{number}_{i}.mp4')
            targets = self.targets(Source(Path('camera.mp4'), name))
            if not any(path.exists() for path in targets):
                return targets
        raise AssertionError

    def done(self, source: Source) -> bool:
        """Return whether all result files of ``source`` exist and are up to date."""
        targets = self.targets(source)
        if self._fresh:
            return False
        since = max(file.stat().st_mtime_ns for file in (self._note, source.path))
        stats = [path.stat() for path in targets if path.is_file()]
        return len(stats) == len(targets) and all(
            stat.st_size and stat.st_mtime_ns >= since for stat in stats
        )


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


def describe(pixels: Image, faces: Sequence[Face], **first: Any) -> str:
    """Return the faces as a line of JSON: pixels to 1/100, scores to 1/10,000.

    Faces of a model of several classes also have the name of their class.
    """
    rows = [
        {
            **({} if face.class_name is None else {'class': face.class_name}),
            'bbox': [round(float(v), 2) for v in face.bbox],
            'score': round(float(face.score), 4),
            'keypoints': None
            if face.keypoints is None
            else [[round(float(v), 2) for v in point] for point in face.keypoints],
        }
        for face in faces
    ]
    height, width = pixels.shape[:2]
    return json.dumps({**first, 'width': width, 'height': height, 'faces': rows}) + '\n'


def do_images(
    sources: Sequence[Source], results: Results, detector: Detector, batch_size: int, bar: tqdm
) -> tuple[int, list[str], list[str]]:
    """Detect faces in images.

    Returns:
        The number of faces, the messages of images without a result, and those of images with
        damaged data inside.
    """
    faces_found = 0
    problems: list[str] = []
    damaged: list[str] = []
    for chunk in batches(sources, batch_size):
        images = {}
        for source in chunk:
            try:
                images[source] = read_image(source.path, damaged.append)
            except IMAGE_ERRORS as error:
                problems.append(one_line(error))
        for source, faces in detect_all(images, detector, problems):
            target, *lines = results.targets(source)
            for path in lines:
                text = describe(images[source], faces, image=source.name.as_posix())
                write_text(path, text, sync=False)
            write_image(target, results.render(images[source], faces))
            faces_found += len(faces)
        bar.update(len(chunk))
    return faces_found, problems, damaged


def detect_all(
    images: dict[Source, Image], detector: Detector, problems: list[str]
) -> Iterator[tuple[Source, list[Face]]]:
    """Detect in all images at once, or one by one if this fails for one of them."""
    try:
        found = detector(list(images.values())) if images else []
    except IMAGE_ERRORS as error:
        if len(images) > 1:
            for source, image in images.items():
                yield from detect_all({source: image}, detector, problems)
            return
        problems += [f'{source.path}: {one_line(error)}' for source in images]
    else:
        yield from zip(images, found, strict=True)


def do_video(
    reader: VideoReader,
    targets: Sequence[Path],
    detector: Detector,
    batch_size: int,
    render: Render,
) -> str:
    """Detect faces in a video to its end, or in a camera until Ctrl-C. Return a report line.

    Raises:
        ValueError: A frame cannot be read, or the network fails on it. Nothing is written.
    """
    frames = faces_found = 0
    start = time.monotonic()
    with (
        progress_bar(total=reader.total, desc=targets[0].name, unit='frame') as bar,
        open_video(targets[0], reader.fps, reader.size) as video,
        whole_file(targets[1]) if len(targets) > 1 else nullcontext() as tmp,
        tmp.open('w', encoding='utf-8') if tmp else nullcontext() as lines,
    ):
        try:
            for chunk in batches(reader, 1 if reader.live else batch_size):
                found = _detect_frames(chunk, detector, reader.name)
                for frame, faces in zip(chunk, found, strict=True):
                    video.write(Frame(frame.number, frame.seconds, render(frame.image, faces)))
                    if lines:
                        first = {'frame': frame.number, 'seconds': round(frame.seconds, 4)}
                        lines.write(describe(frame.image, faces, **first))
                    faces_found += len(faces)
                frames += len(chunk)
                bar.update(len(chunk))
        except KeyboardInterrupt:
            if not reader.live or not frames:
                raise
        finally:
            reader.close()
        seconds = max(time.monotonic() - start, 1e-9)
    lost = reader.total is not None and frames < reader.total
    return (
        f'{targets[0]}: {frames} frames{f" (the file says {reader.total})" if lost else ""}, '
        f'{faces_found} faces, {seconds:.1f} s, {frames / seconds:.1f} frames/s'
    )


def _detect_frames(chunk: Sequence[Frame], detector: Detector, video: str) -> list[list[Face]]:
    """Detect faces in the frames of a video.

    Raises:
        ValueError: The network fails. The message names the video and the frame.
    """
    try:
        return detector([frame.image for frame in chunk])
    except IMAGE_ERRORS as error:
        raise ValueError(f'{video}, frame {chunk[0].number}: {one_line(error)}') from error


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split ``items`` into lists of ``size``. The last one may be shorter."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
