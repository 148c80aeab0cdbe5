# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Time training pipelines on one core against the pipelines of the reference projects."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DefaultScope

import mmface.datasets
import mmface.models  # noqa: F401
from mmface.datasets.transforms.jpeg_rows import read_file
from mmface.utils.allocator import keep_freed_memory
from mmface.utils.epoch_index import EpochIndex
from mmface.utils.image_decoding import decode_image, decode_jpeg, is_jpeg
from mmface_benchmark import baseline_pipelines as baselines
from mmface_benchmark.timing import Comparison, compare

Way = Callable[[], object]

CONFIGS = ['configs/scrfd/scrfd_500m_bnkps.py', 'configs/centerface/centerface.py']
OURS, STOCK, DECODING = 'mmface', 'reference', 'cv2.imread alone'
COLOURED, SIMPLEJPEG = 'mmface, colours too', 'simplejpeg alone'
BATCHED = 'reference, normalised as a batch'
SHRINKING = 'reference, not enlarging'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``benchmark.py data``."""
    add = parser.add_argument
    add('configs', nargs='*', default=CONFIGS, help='SCRFD or CenterFace configs (one of each)')
    add('--labels', help="label file (default: the config's)")
    add('--images', help='folder of its images, required with --labels')
    add('--batch-size', type=int, default=32, help='images timed at a time (%(default)s)')
    add('--device', default='cpu', help='cpu (default) or cuda: where a batch gets its colours')


def run(args: argparse.Namespace) -> list[Comparison]:
    """Time each config: first with all work on the CPU, then with the colours on the device.

    Raises:
        ValueError: The pipeline of a config is neither SCRFD's nor CenterFace's, or only one of
            ``--labels`` and ``--images`` is given.
    """
    if bool(args.labels) != bool(args.images):
        raise ValueError('expected --labels and --images together, found only one of them')
    keep_freed_memory()  # as the workers of tools/train.py do; it applies to every way
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        with DefaultScope.overwrite_default_scope('mmdet'):
            return [found for config in args.configs for found in _compare(config, args)]
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def _compare(config: str, args: argparse.Namespace) -> list[Comparison]:
    cfg = Config.fromfile(config)
    settings = cfg.train_dataloader.dataset
    pipeline, preprocessor = settings.pipeline, cfg.model.data_preprocessor
    dataset = _build_dataset(settings, args.labels, args.images)
    prepare = MODELS.build(preprocessor)
    feed = functools.partial(_Feed, dataset, args.batch_size)

    def whole(transforms: Sequence[BaseTransform]) -> Way:
        return feed(transforms, lambda samples: prepare(_collate(samples), training=True))

    references = {
        name: feed(transforms, finish)
        for name, (transforms, finish) in _references(pipeline, preprocessor).items()
    }
    each = f'{config}, {args.batch_size} of {len(dataset)} images, one core'
    on_cpu, on_device = (_build_pipeline(pipeline, place) for place in (False, True))
    ways: dict[str, Way] = {OURS: whole(on_cpu), **references}
    task = f'{each}: everything on the CPU'
    found = [compare(task, ways, args.rounds, clock=time.process_time)]

    ways = {
        OURS: feed(on_device, _collate),
        COLOURED: feed(on_cpu, _collate),
        **references,
        DECODING: feed([_Decode()], len),
        SIMPLEJPEG: feed([_DecodeJpeg()], len),
    }
    task = f'{each}: colours and normalisation left to the device'
    timed = compare(task, ways, args.rounds, clock=time.process_time)
    medians = {timing.name: timing.median for timing in timed.timings}
    notes = {
        f'{name} / {alone}': f'{medians[name] / medians[alone]:.2f}'
        for name in (OURS, COLOURED)
        for alone in (DECODING, SIMPLEJPEG)
    }
    found.append(replace(timed, notes=notes))
    if args.device != 'cpu':
        found.append(_on_device(config, args, feed, pipeline, prepare))
    return found


def _on_device(
    config: str, args: argparse.Namespace, feed: Callable, pipeline: list, prepare: torch.nn.Module
) -> Comparison:
    """Time a batch on the device, and how much longer it takes with the colours."""
    prepare.to(args.device)
    batches = {
        name: feed(_build_pipeline(pipeline, place), _collate)()
        for name, place in (('with colours', True), ('without', False))
    }
    ways = {name: functools.partial(prepare, batch, True) for name, batch in batches.items()}
    wait = torch.cuda.synchronize if args.device.startswith('cuda') else None
    task = f'{config}: a batch of {args.batch_size} on {args.device}, copy included'
    return compare(task, ways, args.rounds, synchronize=wait)


class _Feed:
    """One way: run the next images of a data set through transforms and finish the batch."""

    def __init__(
        self,
        dataset: BaseDataset,
        batch_size: int,
        transforms: Sequence[BaseTransform],
        finish: Callable,
    ) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.transforms, self.finish = transforms, finish
        self.drawn = 0

    def __call__(self) -> object:
        return self.finish([self.sample() for _ in range(self.batch_size)])

    def sample(self) -> dict | None:
        epoch, index = divmod(self.drawn, len(self.dataset))
        # Coprime to most lengths: this separates images of one event, which have similar sizes.
        index = index * 211 % len(self.dataset)
        self.drawn += 1
        results = self.dataset.get_data_info(index)
        results['sample_idx'] = EpochIndex(index, epoch, seed=0)
        for transform in self.transforms:
            results = transform(results)
        return results


class _Decode(BaseTransform):
    def transform(self, results: dict) -> dict:
        results['img'] = cv2.imread(results['img_path'])
        return results


class _DecodeJpeg(BaseTransform):
    def transform(self, results: dict) -> dict:
        data = read_file(results['img_path'])
        # Only simplejpeg's own kind of files; the others count for both ways alike.
        results['img'] = decode_jpeg(data, '') if is_jpeg(data) else None
        if results['img'] is None:
            results['img'] = decode_image(data, '')
        return results


def _build_dataset(settings: dict, labels: str | None, images: str | None) -> BaseDataset:
    options = {**settings, 'pipeline': []}
    if labels:
        options.update(data_root='', ann_file=labels, data_prefix=dict(img_path=images))
    return DATASETS.build(options)


def _build_pipeline(pipeline: list[dict], on_device: bool) -> list[BaseTransform]:
    coloured = ('FacePhotometric', 'ColourJitter')
    return [
        TRANSFORMS.build({**step, 'on_device': on_device} if step['type'] in coloured else step)
        for step in pipeline
    ]


def _references(
    pipeline: list[dict], preprocessor: dict
) -> dict[str, tuple[list[BaseTransform], Callable]]:
    names = {step['type'] for step in pipeline}
    given = (pipeline, preprocessor)
    stack = baselines.stack_batch
    if {'RandomSquareCrop', 'FacePhotometric'} <= names:
        # mmcv's Normalize takes 20 ms with OpenCV 4.12, so both forms are timed.
        batch = baselines.normalised_batch(preprocessor)
        return {
            STOCK: (baselines.stock_scrfd(*given), stack),
            BATCHED: (baselines.stock_scrfd(*given, normalise=False), batch),
        }
    if {'DataAnchorSample', 'ColourJitter'} <= names:
        return {
            STOCK: (baselines.reference_centerface(*given), stack),
            SHRINKING: (baselines.reference_centerface(*given, enlarge=False), stack),
        }
    raise ValueError(
        f'expected the training pipeline of SCRFD or CenterFace, found {sorted(names)}: there is '
        'no reference to compare it with'
    )


def _collate(samples: list[dict]) -> dict[str, list]:
    return {key: [sample[key] for sample in samples] for key in ('inputs', 'data_samples')}
