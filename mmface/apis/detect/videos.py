# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find faces in videos and cameras and write the results. Torch is not needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from mmface.apis.detect.base import IMAGE_ERRORS, Detector, Render, batches, describe
from mmface.apis.detect.images import UNDECODABLE
from mmface.apis.detect.results import Results
from mmface.apis.video.base import Frame, VideoSource
from mmface.apis.video.gaps import GapFiller, SeenFrame
from mmface.apis.video.open import open_source
from mmface.apis.video.tracks import FaceTracker
from mmface.structures import Face
from mmface.utils.cli import one_line
from mmface.utils.files import whole_file
from mmface.utils.pipeline import Behind, ordered, read_ahead
from mmface.utils.progress import progress_bar
from mmface.utils.walk import Skipped

R = TypeVar('R')
NEEDS_VIDEO = 'needs the extra video'
# A face that turns away or blurs keeps a score far above that of most backgrounds.
_LOW_SHARE = 0.25
_LOWEST = 0.05
# Numbers of frames that are read before the network needs them, and that wait to be drawn and
# written. They level out that no two frames take the same time.
_READ_AHEAD = _UNWRITTEN = 8


class VideoJob(NamedTuple):
    """A video to be processed.

    Attributes:
        origin: The file, or the number of a camera.
        targets: Files to write: the video, and the JSONL file if it is wanted.
        name: Name of the video in the JSONL file and in the user's files of boxes.
    """

    origin: Path | int
    targets: list[Path]
    name: str


class Gaps(NamedTuple):
    """How faces are followed through frames in which they are not found.

    Attributes:
        max_gap: Number of frames that a track survives without its face.
        hide: Whether faces are rendered in frames in which they were missed, see ``GapFiller``.
        hold: As for ``GapFiller``.
        score_thr: Lowest score of a face that starts a track.
    """

    max_gap: int = 25
    hide: bool = False
    hold: int = 8
    score_thr: float = 0.0

    @property
    def detector_thr(self) -> float:
        """Lowest score that the detector should return.

        Where faces are hidden, it is lower than ``score_thr``: faces with scores in between
        continue tracks.
        """
        low = max(_LOW_SHARE * self.score_thr, _LOWEST)
        return min(low, self.score_thr) if self.hide else self.score_thr


def do_videos(
    jobs: Sequence[VideoJob],
    results: Results,
    detector: Detector,
    batch_size: int,
    gaps: Gaps,
    workers: int = 1,
) -> list[Skipped]:
    """Detect faces in videos, one after the other, and print a line for each.

    Args:
        jobs: The videos.
        results: The folder of the results.
        detector: Finds faces in a list of images, down to ``gaps.detector_thr``.
        batch_size: Frames per call of ``detector``.
        gaps: How faces are followed.
        workers: Number of threads that call ``detector``, while this one reads and another one
            draws and writes.

    Returns:
        The videos without a result.
    """
    skipped = []
    for job in jobs:
        try:
            with closing(open_source(job.origin)) as source:
                line = do_video(
                    source,
                    job.name,
                    job.targets,
                    detector,
                    batch_size,
                    results.render,
                    gaps,
                    workers,
                )
        except (*IMAGE_ERRORS, ModuleNotFoundError) as error:
            missing = isinstance(error, ModuleNotFoundError)
            reason = NEEDS_VIDEO if missing else UNDECODABLE
            skipped.append(Skipped(Path(str(job.origin)), reason, one_line(error)))
        else:
            print(line, flush=True)
    return skipped


def do_video(
    source: VideoSource,
    name: str,
    targets: Sequence[Path],
    detector: Detector,
    batch_size: int,
    render: Render,
    gaps: Gaps,
    workers: int = 1,
) -> str:
    """Detect faces in a video to its end, or in a camera until Ctrl-C. Return a report line.

    Raises:
        ModuleNotFoundError: PyAV is not installed. The message has the pip command.
        ValueError: The video has no frames, or the network fails on one. Nothing is written.
    """
    # Imported here: only videos need PyAV.
    from mmface.apis.video.writer import open_video

    def detect(chunk: list[Frame]) -> tuple[list[Frame], list[list[Face]]]:
        return chunk, _detect_frames(chunk, detector, source.name)

    sound = {'sound': source.sound, 'start': source.start}
    start = time.monotonic()
    tracker = FaceTracker(gaps.max_gap, gaps.score_thr)
    hidden = GapFiller(gaps.max_gap, gaps.hold, gaps.score_thr)
    filler = hidden if gaps.hide else GapFiller(0, 0)
    with (
        progress_bar(total=source.total, desc=targets[0].name, unit='frame') as bar,
        open_video(targets[0], source.fps, source.size, **sound, aspect=source.aspect) as video,
        whole_file(targets[1]) if len(targets) > 1 else nullcontext() as tmp,
        tmp.open('w', encoding='utf-8') if tmp else nullcontext() as lines,
    ):
        output = _Output(name, video, lines, render, gaps.score_thr)
        with Behind(_UNWRITTEN) as behind:
            try:
                with closing(_detected(source, detect, batch_size, workers)) as chunks:
                    for chunk, found in chunks:
                        for frame, faces in zip(chunk, found, strict=True):
                            for ready in filler.push(_follow(frame, faces, tracker)):
                                behind.call(output.write, ready)
                        bar.update(len(chunk))
            except KeyboardInterrupt:
                if not source.live:
                    raise
            for ready in filler.finish():
                behind.call(output.write, ready)
        if not output.frames:
            if source.live:  # interrupted before the first frame
                raise KeyboardInterrupt
            raise ValueError(f'{source.name}: no frame could be decoded')
        damaged_sound = video.damaged_sound
    seconds = max(time.monotonic() - start, 1e-9)
    notes = [
        f'{output.frames} frames',
        f'{output.faces} faces' + (f' ({output.low} below the threshold)' if output.low else ''),
        f'{seconds:.1f} s',
        f'{output.frames / seconds:.1f} frames/s',
    ]
    if source.total is not None and output.frames < source.total:
        notes[0] += f' (the file says {source.total})'
    if gaps.hide:
        notes.append(f'{output.missed} more places hidden')
    if any(side % 2 for side in source.size):
        notes.append('an odd side is one pixel longer: its last row or column is there twice')
    if source.damaged:
        notes.append(f'{source.damaged} damaged frames')
    if damaged_sound:
        notes.append(f'{damaged_sound} damaged packets of sound left out')
    return f'{targets[0]}: {", ".join(notes)}'


def _detected(
    source: VideoSource, detect: Callable[[list[Frame]], R], batch_size: int, workers: int
) -> Generator[R, None, None]:
    """Call ``detect`` for the batches of the frames in threads, while another one reads."""
    if source.live:  # nothing waits, so that each frame is a new one
        with closing(ordered(batches(source, 1), detect, workers, 0)) as found:
            yield from found
        return
    # At most twice the workers' batches are in memory.
    with (
        closing(read_ahead(source, _READ_AHEAD)) as frames,
        closing(ordered(batches(frames, batch_size), detect, workers)) as found,
    ):
        yield from found


class _Output:
    """Writes complete frames and counts what it has written."""

    def __init__(
        self, name: str, video: Any, lines: IO[str] | None, render: Render, score_thr: float
    ) -> None:
        self._name, self._video, self._lines, self._render = name, video, lines, render
        self._score_thr = score_thr
        self.frames = self.faces = self.low = self.missed = 0

    def write(self, ready: tuple[SeenFrame, list[Face]]) -> None:
        seen, missed = ready
        frame = seen.frame
        faces = [*seen.faces, *missed]
        image = self._render(frame.image, faces, self._name, frame.number)
        self._video.write(frame._replace(image=image))
        if self._lines:
            first = {'video': self._name, 'frame': frame.number}
            first['seconds'] = round(frame.seconds, 4)
            self._lines.write(describe(frame.image, seen.faces, seen.tracks, **first))
        self.frames += 1
        self.faces += len(seen.faces)
        self.low += sum(face.score < self._score_thr for face in seen.faces)
        self.missed += len(missed)


def _follow(frame: Frame, faces: Sequence[Face], tracker: FaceTracker) -> SeenFrame:
    """Return the frame with those of its faces that have a track."""
    tracks = tracker.update(faces)
    seen = [(face, track) for face, track in zip(faces, tracks, strict=True) if track is not None]
    return SeenFrame(frame, [face for face, _ in seen], [track for _, track in seen])


def _detect_frames(chunk: Sequence[Frame], detector: Detector, video: str) -> list[list[Face]]:
    """Detect faces in the frames of a video.

    Raises:
        ValueError: The network fails. The message names the video and the frame.
    """
    try:
        return detector([frame.image for frame in chunk])
    except IMAGE_ERRORS as error:
        raise ValueError(f'{video}, frame {chunk[0].number}: {one_line(error)}') from error
