# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find faces in pictures, folders, videos or a webcam, and draw or hide them."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
from tqdm import tqdm

from mmface.apis.render import blur_faces, mark_faces
from mmface.apis.video import Frame, VideoReader, open_video
from mmface.utils.cli import main_guard, make_parser, one_line
from mmface.utils.files import remove_leftovers, whole_file, write_text
from mmface.utils.picture_files import (
    Picture,
    Source,
    find_sources,
    read_picture,
    result_path,
    write_picture,
)

if TYPE_CHECKING:
    from mmface.structures import Face

    Detector = Callable[[list[Picture]], list[list[Face]]]
    Render = Callable[[Picture, Sequence[Face]], Picture]

T = TypeVar('T')
SCORE_THR = 0.5
# A face that is missed stays visible, while a cushion that is blurred harms nobody.
BLUR_SCORE_THR = 0.2
SETTINGS = 'settings.json'
PROVIDERS = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'}
# What a strange picture can make OpenCV, onnxruntime and torch raise.
PICTURE_ERRORS = (ValueError, OSError, RuntimeError, MemoryError, cv2.error)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = make_parser(
        f'{__doc__} The model is an ONNX file (--model; needs no torch) or a config with its '
        'checkpoint (--config and --checkpoint). A run that was interrupted goes on where it '
        'stopped when it is started again: results that are there are skipped.',
        'python tools/detect.py photos clip.mp4 --model scrfd_2.5g_bnkps.onnx --out found --json\n'
        '  python tools/detect.py photos --config scrfd_2.5g_bnkps \\\n'
        '      --checkpoint scrfd_2.5g_bnkps.pth --out hidden --blur',
    )
    add = parser.add_argument
    add(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='pictures, videos, folders (searched with all below them), or 0, 1 ... for a webcam, '
        'which Ctrl-C ends',
    )
    add('--model', metavar='FILE', help='ONNX file of a face detector')
    add('--config', help='config file, or the name of one of mmface, such as scrfd_2.5g_bnkps')
    add('--checkpoint', metavar='FILE', help='checkpoint of that config')
    add(
        '--out',
        type=Path,
        default=Path('work_dirs/detect'),
        metavar='DIR',
        help='folder for the results (default work_dirs/detect); those of an input folder come '
        'into a folder of its name; videos become mp4 files without sound',
    )
    add(
        '--blur',
        action='store_true',
        help='hide the faces instead of marking them; faces that are not found stay visible, so '
        'look at the result',
    )
    add(
        '--json',
        action='store_true',
        help='also write boxes, scores and landmarks: NAME.json for a picture, NAME.jsonl with a '
        'line for each frame for a video',
    )
    add(
        '--score-thr',
        type=float,
        help=f'lowest score of a face (default {SCORE_THR}, with --blur {BLUR_SCORE_THR})',
    )
    add('--device', default='auto', help='auto (default), cpu, cuda or npu (ONNX: cpu or cuda)')
    add('--batch-size', type=int, default=1, help='pictures at once (default 1); more suit a GPU')
    add('--overwrite', action='store_true', help='do again what is there already')
    add(
        '--trust-checkpoint',
        action='store_true',
        help='load a checkpoint that holds any Python object: it can run code',
    )
    args = parser.parse_args(argv)
    if bool(args.model) == bool(args.config or args.checkpoint):
        parser.error('give either --model FILE or --config CONFIG --checkpoint FILE')
    if bool(args.config) != bool(args.checkpoint):
        parser.error('--config and --checkpoint belong together: give both')
    if args.score_thr is None:
        args.score_thr = BLUR_SCORE_THR if args.blur else SCORE_THR
    if not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr {args.score_thr}: expected a number from 0 to 1')
    if args.batch_size < 1:
        parser.error(f'--batch-size {args.batch_size}: expected at least 1')
    return args


def build_detector(args: argparse.Namespace) -> Detector:
    """Load the model."""
    if args.model:
        from mmface.deploy.runtime import FaceDetector

        if args.device not in ('auto', *PROVIDERS):
            raise ValueError(f'--device {args.device}: an ONNX file runs on {", ".join(PROVIDERS)}')
        providers = [PROVIDERS[args.device]] if args.device in PROVIDERS else None
        return FaceDetector(args.model, score_thr=args.score_thr, providers=providers)

    from mmface.apis import FaceInferencer

    inferencer = FaceInferencer(
        args.config,
        args.checkpoint,
        args.device,
        show_progress=False,
        trust_checkpoint=args.trust_checkpoint,
    )
    return lambda images: inferencer(images, len(images), score_thr=args.score_thr)


class Results:
    """Where results are, and which of them are there.

    Results count if they are newer than what they were made from and than ``settings.json``,
    which says how those in the folder are made; a run with other settings is refused.

    Args:
        args: The command line.

    Raises:
        ValueError: The folder holds results of other settings.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.folder: Path = args.out
        self.json: bool = args.json
        self.render = blur_faces if args.blur else mark_faces
        files = [Path(f) for f in (args.model, args.config, args.checkpoint) if f]
        now = {
            'model': [str(file.resolve()) if file.is_file() else str(file) for file in files],
            'modified': [file.stat().st_mtime for file in files if file.is_file()],
            'score_thr': args.score_thr,
            'blur': args.blur,
            'json': args.json,
        }
        self._note = self.folder / SETTINGS
        before = None
        if self._note.is_file():
            try:
                before = dict(json.loads(self._note.read_text(encoding='utf-8')))
            except (ValueError, TypeError, RecursionError):
                before = {}  # damaged: nothing is known of the results there
        if before != now and before is not None and not args.overwrite:
            changed = [key for key in now if before.get(key) != now[key]]
            raise ValueError(
                f'{self.folder} holds results of a run with another {" and ".join(changed)}: give '
                'another folder with --out, or --overwrite to do all again'
            )
        self._fresh = before != now or args.overwrite
        self._settings = now

    def begin(self) -> None:
        """Note the settings; results from before do not count if these are new."""
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
        """List the files that are written for a camera: a new name each time."""
        for i in itertools.count():
            name = Path(f'camera_{number}_{i}.mp4')
            targets = self.targets(Source(Path('camera.mp4'), name))
            if not any(path.exists() for path in targets):
                return targets
        raise AssertionError

    def done(self, source: Source) -> bool:
        """Whether all files of ``source`` are there."""
        targets = self.targets(source)
        if self._fresh:
            return False
        since = max(file.stat().st_mtime_ns for file in (self._note, source.path))
        stats = [path.stat() for path in targets if path.is_file()]
        return len(stats) == len(targets) and all(
            stat.st_size and stat.st_mtime_ns >= since for stat in stats
        )


def describe(image: Picture, faces: Sequence[Face], **first: Any) -> str:
    """Give what was found as a line of JSON; pixels to 1/100, scores to 1/10,000."""
    rows = [
        {
            'bbox': [round(float(v), 2) for v in face.bbox],
            'score': round(float(face.score), 4),
            'keypoints': None
            if face.keypoints is None
            else [[round(float(v), 2) for v in point] for point in face.keypoints],
        }
        for face in faces
    ]
    height, width = image.shape[:2]
    return json.dumps({**first, 'width': width, 'height': height, 'faces': rows}) + '\n'


def do_pictures(
    sources: Sequence[Source], results: Results, detector: Detector, batch_size: int, bar: tqdm
) -> tuple[int, list[str]]:
    """Work on pictures; give the number of faces and what went wrong."""
    faces_found, problems = 0, []
    for chunk in batches(sources, batch_size):
        images = {}
        for source in chunk:
            try:
                images[source] = read_picture(source.path)
            except PICTURE_ERRORS as error:
                problems.append(one_line(error))
        for source, faces in detect_all(images, detector, problems):
            target, *lines = results.targets(source)
            for path in lines:
                text = describe(images[source], faces, picture=source.name.as_posix())
                write_text(path, text, sync=False)
            write_picture(target, results.render(images[source], faces))
            faces_found += len(faces)
        bar.update(len(chunk))
    return faces_found, problems


def detect_all(
    images: dict[Source, Picture], detector: Detector, problems: list[str]
) -> Iterator[tuple[Source, list[Face]]]:
    """Detect at once, or one by one if one of the pictures is not possible."""
    try:
        found = detector(list(images.values())) if images else []
    except PICTURE_ERRORS as error:
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
    """Work on a video until its end, or on a camera until Ctrl-C; give a line about it."""
    frames = faces_found = 0
    with (
        tqdm(total=reader.total, desc=targets[0].name, unit='frame') as bar,
        open_video(targets[0], reader.fps, reader.size) as video,
        whole_file(targets[1]) if len(targets) > 1 else nullcontext() as tmp,
        tmp.open('w', encoding='utf-8') if tmp else nullcontext() as lines,
    ):
        try:
            for chunk in batches(reader, 1 if reader.live else batch_size):
                found = detector([frame.image for frame in chunk])
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
        seconds = max(bar.format_dict['elapsed'], 1e-9)
    lost = reader.total is not None and frames < reader.total
    return (
        f'{targets[0]}: {frames} frames{f" (the file says {reader.total})" if lost else ""}, '
        f'{faces_found} faces, {seconds:.1f} s, {frames / seconds:.1f} frames/s'
    )


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut ``items`` into lists of ``size``, the last one possibly shorter."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def main() -> None:
    args = parse_args()
    # So that half-written files are cleared away as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # What OpenCV cannot read is reported here, in one line.
    cv2.setLogLevel(0)
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    cameras = [int(i) for i in args.inputs if i.isdecimal() and not Path(i).exists()]
    files = [i for i in args.inputs if not i.isdecimal() or Path(i).exists()]
    sources = find_sources(files, videos=True, skip=args.out)
    results = Results(args)
    todo = [source for source in sources if not results.done(source)]
    skipped = len(sources) - len(todo)
    if not todo and not cameras:
        print(f'nothing to do: all {skipped} results are in {args.out} already')
        return
    detector = build_detector(args)
    results.begin()
    pictures = [source for source in todo if not source.is_video]
    videos: list[tuple[Path | int, list[Path]]] = [
        *((source.path, results.targets(source)) for source in todo if source.is_video),
        *((number, results.camera_targets(number)) for number in cameras),
    ]
    problems: list[str] = []
    if pictures:
        with tqdm(total=len(pictures), desc='pictures', unit='picture') as bar:
            count, problems = do_pictures(pictures, results, detector, args.batch_size, bar)
        done = len(pictures) - len(problems)
        print(f'{args.out}: {done} pictures, {count} faces', flush=True)
    if skipped:
        print(f'{args.out}: {skipped} results were there already', flush=True)
    for origin, targets in videos:
        try:
            reader = VideoReader(origin)
            print(do_video(reader, targets, detector, args.batch_size, results.render), flush=True)
        except ValueError as error:
            problems.append(one_line(error))
    for problem in problems:
        sys.stderr.write(f'error: {problem}\n')
    if problems:
        if len(pictures) + len(videos) > 1:
            sys.stderr.write(f'{len(problems)} of {len(pictures) + len(videos)} were not done\n')
        sys.exit(1)


if __name__ == '__main__':
    main_guard(main)
