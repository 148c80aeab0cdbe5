# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find faces in images, folders, videos or a webcam, and draw or blur them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mmface.apis.detect.base import Detector
from mmface.apis.detect.images import do_images
from mmface.apis.detect.results import Results
from mmface.apis.detect.videos import VideoJob, do_videos
from mmface.cli.hiding_options import (
    add_hiding_options,
    build_gaps,
    build_render,
    check_hiding_options,
    check_names,
    hiding_settings,
)
from mmface.cli.size_options import add_size_options, check_size_options, size_settings
from mmface.utils.cli import make_parser
from mmface.utils.images import find_sources
from mmface.utils.progress import progress_bar
from mmface.utils.quiet import quiet_opencv

SCORE_THR = 0.5
# A missed face stays visible, but blurring something else by mistake does no harm.
BLUR_SCORE_THR = 0.2
PROVIDERS = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        f'{__doc__} The model is an ONNX file (--model; needs no torch) or a config with its '
        'checkpoint (--config and --checkpoint). Start an interrupted run again to continue it: '
        'existing results are skipped.',
        'python tools/detect.py photos clip.mp4 --model scrfd_2.5g_bnkps.onnx --out found --json\n'
        '  python tools/detect.py photos --config scrfd_2.5g_bnkps \\\n'
        '      --checkpoint scrfd_2.5g_bnkps.pth --out hidden --blur',
    )
    add = parser.add_argument
    add(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='images, videos, folders (searched recursively), or 0, 1 ... for a webcam, '
        'which Ctrl-C stops',
    )
    add('--model', metavar='FILE', help='ONNX file of a face detector')
    add('--config', help='config file, or the name of a config, such as scrfd_2.5g_bnkps')
    add('--checkpoint', metavar='FILE', help='checkpoint of that config')
    add(
        '--out',
        type=Path,
        default=Path('work_dirs/detect'),
        metavar='DIR',
        help='folder for the results (default work_dirs/detect); results of an input folder go '
        'into a subfolder with its name; videos become mp4 files (H.264, sound copied)',
    )
    add_hiding_options(parser)
    add_size_options(parser)
    add(
        '--json',
        action='store_true',
        help='also write boxes, scores and keypoints: NAME.json for an image, NAME.jsonl with a '
        'line for each frame for a video',
    )
    add(
        '--score-thr',
        type=float,
        help=f'lowest score of a face (default {SCORE_THR}, with --blur {BLUR_SCORE_THR})',
    )
    add('--device', default='auto', help='auto (default), cpu, cuda or npu (ONNX: cpu or cuda)')
    add('--batch-size', type=int, default=1, help='images per batch (default 1); more for a GPU')
    add('--overwrite', action='store_true', help='replace existing results')
    add(
        '--trust-checkpoint',
        action='store_true',
        help='load any Python object in the checkpoint: it can run code',
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
    check_hiding_options(parser, args)
    check_size_options(parser, args)
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
        return FaceDetector(
            args.model, score_thr=args.score_thr, providers=providers, **size_settings(args)
        )

    from mmface.apis import FaceInferencer

    inferencer = FaceInferencer(
        args.config,
        args.checkpoint,
        args.device,
        score_thr=args.score_thr,
        show_progress=False,
        trust_checkpoint=args.trust_checkpoint,
    )
    return lambda images: inferencer(images, len(images))


def main() -> None:
    """Find the faces."""
    args = parse_args()
    # SIGTERM then removes half-written files, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    quiet_opencv()  # unreadable files are reported here, in one line each
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    cameras = [int(i) for i in args.inputs if i.isdecimal() and not Path(i).exists()]
    files = [i for i in args.inputs if not i.isdecimal() or Path(i).exists()]
    sources = find_sources(files, videos=True, skip=args.out)
    model = [file for file in (args.model, args.config, args.checkpoint) if file]
    settings = {'score_thr': args.score_thr, **size_settings(args), **hiding_settings(args)}
    render = build_render(args)
    check_names(render, [source.name.as_posix() for source in sources])
    results = Results(args.out, model, settings, render, args.json, args.overwrite)
    todo = [source for source in sources if not results.done(source)]
    skipped = len(sources) - len(todo)
    if not todo and not cameras:
        print(f'nothing to do: all {skipped} results are in {args.out} already')
        return
    detector = build_detector(args)
    results.begin()
    images = [source for source in todo if not source.is_video]
    videos = [
        *(
            VideoJob(source.path, results.targets(source), source.name.as_posix())
            for source in todo
            if source.is_video
        ),
        *(VideoJob(i, results.camera_targets(i), f'camera_{i}') for i in cameras),
    ]
    problems: list[str] = []
    if images:
        with progress_bar(total=len(images), desc='images', unit='image') as bar:
            count, problems, damaged = do_images(images, results, detector, args.batch_size, bar)
        for text in damaged:
            sys.stderr.write(f'warning: {text}\n')
        done = len(images) - len(problems)
        note = f', {len(damaged)} of the images are damaged inside' if damaged else ''
        print(f'{args.out}: {done} images, {count} faces{note}', flush=True)
    if skipped:
        print(f'{args.out}: {skipped} results existed already', flush=True)
    problems += do_videos(videos, results, detector, args.batch_size, build_gaps(args))
    for problem in problems:
        sys.stderr.write(f'error: {problem}\n')
    if problems:
        if len(images) + len(videos) > 1:
            sys.stderr.write(f'{len(problems)} of {len(images) + len(videos)} were not done\n')
        sys.exit(1)
