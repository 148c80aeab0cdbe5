# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find faces in images, folders, videos or a webcam, and draw or blur them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mmface.apis.detect.base import Detector, above
from mmface.apis.detect.bulk_options import add_bulk_options, check_bulk_options, run_bulk
from mmface.apis.detect.crop_options import (
    add_crop_options,
    build_crops,
    check_crop_options,
    crop_settings,
)
from mmface.apis.detect.export_options import (
    add_export_options,
    check_export_options,
    write_exports,
)
from mmface.apis.detect.hiding_options import (
    add_hiding_options,
    build_gaps,
    build_render,
    check_hiding_options,
    check_names,
    hiding_settings,
)
from mmface.apis.detect.images import do_images
from mmface.apis.detect.report import FAILURES, summary, tell_skipped, write_skipped
from mmface.apis.detect.results import Results
from mmface.apis.detect.size_options import add_size_options, check_size_options, size_settings
from mmface.apis.detect.videos import VideoJob, do_videos
from mmface.utils.cli import make_parser
from mmface.utils.progress import progress_bar
from mmface.utils.quiet import quiet_opencv
from mmface.utils.sources import Source, find_sources
from mmface.utils.walk import Skipped
from mmface.utils.worker_options import add_worker_options, check_worker_options
from mmface.weights.fetch import model_file
from mmface.weights.known_files import DEFAULT

SCORE_THR = 0.5
# On a CPU, several images at once are no faster than one after the other.
ACCELERATOR_BATCH = 16
# A missed face stays visible, but blurring something else by mistake does no harm.
BLUR_SCORE_THR = 0.2
PROVIDERS = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        f'{__doc__} The model is an ONNX file (--model; needs no torch) or a config with its '
        'checkpoint (--config and --checkpoint); without either, a free one is fetched. Start an '
        'interrupted run again to continue it: existing results are skipped.',
        'python tools/detect.py photos\n'
        '  python tools/detect.py photos clip.mp4 --model det_2.5g.onnx --out found --json\n'
        '  python tools/detect.py photos --config scrfd_2.5g_bnkps \\\n'
        '      --checkpoint scrfd_2.5g_bnkps.pth --out hidden --blur',
    )
    add = parser.add_argument
    add(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='images, videos, folders (searched recursively and through links), or 0, 1 ... for a '
        'webcam, which Ctrl-C stops',
    )
    add(
        '--model',
        metavar='FILE',
        help='ONNX file of a face detector, or a name in `mmface weights list` (default '
        f'{DEFAULT}, fetched once)',
    )
    add('--config', help='config file, or the name of a config, such as scrfd_2.5g_bnkps')
    add('--checkpoint', metavar='FILE', help='checkpoint of that config')
    add(
        '--out',
        type=Path,
        default=Path('work_dirs/detect'),
        metavar='DIR',
        help='folder for the results, OUT (default work_dirs/detect); results of an input folder '
        'go into a subfolder with its name; videos become mp4 files (H.264, sound copied)',
    )
    add_hiding_options(parser)
    add_size_options(parser)
    add(
        '--json',
        action='store_true',
        help='also write boxes, scores and keypoints: NAME.json for an image, NAME.jsonl with a '
        'line for each frame for a video',
    )
    add_crop_options(parser)
    add_export_options(parser)
    add(
        '--score-thr',
        type=float,
        help=f'lowest score of a face (default {SCORE_THR}, with --blur {BLUR_SCORE_THR}); in '
        'videos, --blur also hides faces that were found and whose scores then fall to a quarter',
    )
    add('--device', default='auto', help='auto (default), cpu, cuda or npu (ONNX: cpu or cuda)')
    add(
        '--batch-size',
        type=int,
        help=f'images per call of the network (default 1 on a CPU, {ACCELERATOR_BATCH} elsewhere)',
    )
    add_worker_options(parser)
    add_bulk_options(parser)
    add(
        '--allow-skipped',
        action='store_true',
        help='exit status 0 even if files could not be processed (with --blur, the exit status is '
        '1 if any file in the folders was skipped)',
    )
    add('--overwrite', action='store_true', help='replace existing results')
    add(
        '--trust-checkpoint',
        action='store_true',
        help='load any Python object in the checkpoint: it can run code',
    )
    args = parser.parse_args(argv)
    if args.model and (args.config or args.checkpoint):
        parser.error('give either --model FILE or --config CONFIG --checkpoint FILE')
    if bool(args.config) != bool(args.checkpoint):
        parser.error('--config and --checkpoint belong together: give both')
    if args.score_thr is None:
        args.score_thr = BLUR_SCORE_THR if args.blur else SCORE_THR
    if not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr {args.score_thr}: expected a number from 0 to 1')
    check_hiding_options(parser, args)
    check_size_options(parser, args)
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f'--batch-size {args.batch_size}: expected at least 1')
    check_worker_options(parser, args)
    check_crop_options(parser, args)
    check_export_options(parser, args)
    check_bulk_options(parser, args)
    return args


def choose_model(args: argparse.Namespace) -> list[str]:
    """Replace the name of a model by its file. Return the files and names that say which it is."""
    if not args.model and not args.config:
        args.model = DEFAULT
        print(f'model: {DEFAULT}, the default (others: --model; mmface weights list)', flush=True)
    if args.model:
        args.model = str(model_file(args.model))
    return [file for file in (args.model, args.config, args.checkpoint) if file]


def build_detector(
    args: argparse.Namespace, score_thr: float | None = None
) -> tuple[Detector, bool]:
    """Load the model, and set the batch size if it is not given.

    Args:
        args: The options.
        score_thr: Lowest score of a face, ``None`` for that of the options.

    Returns:
        The detector, and whether several threads may call it at once.
    """
    score_thr = args.score_thr if score_thr is None else score_thr
    if args.model:
        from mmface.deploy.runtime import FaceDetector

        if args.device not in ('auto', *PROVIDERS):
            raise ValueError(f'--device {args.device}: an ONNX file runs on {", ".join(PROVIDERS)}')
        providers = [PROVIDERS[args.device]] if args.device in PROVIDERS else None
        detector = FaceDetector(
            args.model,
            score_thr=score_thr,
            providers=providers,
            threads=args.threads,
            **size_settings(args),
        )
        on_cpu = detector.session.get_providers()[0] == PROVIDERS['cpu']
        args.batch_size = args.batch_size or (1 if on_cpu else ACCELERATOR_BATCH)
        return detector, True

    from mmface.apis import FaceInferencer

    inferencer = FaceInferencer(
        args.config,
        args.checkpoint,
        args.device,
        score_thr=score_thr,
        show_progress=False,
        trust_checkpoint=args.trust_checkpoint,
    )
    on_cpu = next(inferencer.model.parameters()).device.type == 'cpu'
    args.batch_size = args.batch_size or (1 if on_cpu else ACCELERATOR_BATCH)
    return lambda images: inferencer(images, len(images)), False


def main() -> None:
    """Find the faces."""
    args = parse_args()
    # SIGTERM then removes half-written files, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    quiet_opencv()  # unreadable files are reported here, in one line each
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    cameras = [int(i) for i in args.inputs if i.isdecimal() and not Path(i).exists()]
    files = [i for i in args.inputs if not i.isdecimal() or Path(i).exists()]
    if not args.parquet:
        found = find_sources(files, videos=True, skip=args.out)
    model = choose_model(args)
    if args.parquet:
        run_bulk(args, model, build_detector)
        return
    settings = {
        'score_thr': args.score_thr,
        **size_settings(args),
        **hiding_settings(args),
        **crop_settings(args),
    }
    render = build_render(args)
    check_names(render, [source.name.as_posix() for source in found.sources])
    results = Results(
        args.out, model, settings, render, args.json, args.overwrite, build_crops(args)
    )
    results.check_unique(found.sources)
    todo = [source for source in found.sources if not results.done(source)]
    failed: list[Skipped] = []
    if todo or cameras:
        failed = _run(args, todo, cameras, results)
    elif found.sources:
        print(f'nothing to do: all {len(found.sources)} results are in {args.out} already')
    for line in write_exports(args, results, found.sources):
        print(line, flush=True)
    skipped = [*found.skipped, *failed]
    if found.sources or skipped:
        done = len(todo) + len(cameras) - len(failed)
        print(summary(done, len(found.sources) - len(todo), skipped), flush=True)
    write_skipped(args.out, skipped)
    tell_skipped(found.skipped, failed)
    undone = skipped if args.blur else [item for item in skipped if item.reason in FAILURES]
    if undone and not args.allow_skipped:
        sys.exit(1)


def _run(
    args: argparse.Namespace, todo: Sequence[Source], cameras: Sequence[int], results: Results
) -> list[Skipped]:
    """Process images, then videos, then cameras. Return those without a result."""
    gaps = build_gaps(args)
    images = [source for source in todo if not source.is_video]
    videos = len(images) < len(todo) or bool(cameras)
    detector, concurrent = build_detector(args, gaps.detector_thr if videos else None)
    results.begin()
    failed: list[Skipped] = []
    if images:
        with progress_bar(total=len(images), desc='images', unit='image') as bar:
            threads = args.workers if args.workers > 1 else 0
            find = above(detector, args.score_thr) if videos else detector
            report = do_images(images, results, find, bar, args.batch_size, threads, concurrent)
        for text in report.damaged:
            sys.stderr.write(f'warning: {text}\n')
        note = f', {len(report.damaged)} of the images are damaged inside' if report.damaged else ''
        print(f'{args.out}: {report.done} images, {report.faces} faces{note}', flush=True)
        if args.crops is not None:
            print(f'{args.crops}: {report.faces - report.uncropped} crops', end='')
            print(f', {report.uncropped} faces could not be aligned' if report.uncropped else '')
        failed += report.skipped
    # A torch model is called by one thread only.
    workers = max(args.workers, 1) if concurrent else 1
    jobs = [
        *(
            VideoJob(source.path, results.targets(source), source.name.as_posix())
            for source in todo
            if source.is_video
        ),
        *(VideoJob(i, results.camera_targets(i), f'camera_{i}') for i in cameras),
    ]
    return failed + do_videos(jobs, results, detector, args.batch_size, gaps, workers)
