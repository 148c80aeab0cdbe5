# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find faces in videos and cameras and write the results. Torch is not needed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from mmface.apis.detect.animation import AnimationReader, open_reader
from mmface.apis.detect.base import IMAGE_ERRORS, Detector, Render, batches, describe
from mmface.apis.detect.results import Results
from mmface.apis.video import Frame, VideoReader, open_video
from mmface.structures import Face
from mmface.utils.cli import one_line
from mmface.utils.files import whole_file
from mmface.utils.progress import progress_bar


class VideoJob(NamedTuple):
    """A video to be processed.

    Attributes:
        origin: The file, or the number of a camera.
        targets: Files to write: the video, and the JSONL file if it is wanted.
    """

    origin: Path | int
    targets: list[Path]


def do_videos(
    jobs: Sequence[VideoJob], results: Results, detector: Detector, batch_size: int
) -> list[str]:
    """Detect faces in videos, one after the other, and print a line for each.

    Returns:
        The messages of the videos without a result.
    """
    problems = []
    for job in jobs:
        try:
            reader = open_reader(job.origin)
            line = do_video(reader, job.targets, detector, batch_size, results.render)
        except IMAGE_ERRORS as error:
            problems.append(one_line(error))
        else:
            print(line, flush=True)
    return problems


def do_video(
    reader: VideoReader | AnimationReader,
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
