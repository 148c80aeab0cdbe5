# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find faces in tar shards on many machines with Ray Data: one Parquet file for each shard."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import ray

from mmface.apis.detect.parquet import detect_shard
from mmface.apis.detect.shards import Shard, find_shards
from mmface.deploy.runtime import FaceDetector
from mmface.utils.cli import main_guard, make_parser, one_line


class ShardDetector:
    """Actor with one detector. It does whole shards, so a killed actor loses only unfinished ones.

    A shard whose Parquet file exists is not done again. The files are written whole or not at all,
    so a shard that Ray runs once more after a failure has the same single result.
    """

    def __init__(self, model: str, score_thr: float, out: str) -> None:
        self.detector = FaceDetector(model, score_thr=score_thr, threads=1)
        self.out = Path(out)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do a shard. Errors are returned: Ray would end the job on an exception."""
        shard = Shard(row['name'], Path(row['tar']))
        target = self.out / f'{shard.name}.parquet'
        if target.is_file():
            return {'name': shard.name, 'images': 0, 'failed': 0, 'error': ''}
        try:
            report = detect_shard(shard, target, lambda images: self.detector(images))
        except (ValueError, OSError) as error:
            return {'name': shard.name, 'images': 0, 'failed': 0, 'error': one_line(error)}
        return {'name': shard.name, 'images': report.images, 'failed': report.failed, 'error': ''}


def main() -> None:
    parser: argparse.ArgumentParser = make_parser(
        f'{__doc__} Model, tar files and DIR must have the same paths on every machine.',
        'python tools/bulk_ray.py shards/ --model scrfd_2.5g_bnkps.onnx --out faces --actors 64',
    )
    parser.add_argument('inputs', nargs='+', help='tar files, or folders with tar files')
    parser.add_argument('--model', required=True, metavar='FILE', help='ONNX file')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='for the results')
    parser.add_argument('--score-thr', type=float, default=0.5, help='lowest score (default 0.5)')
    parser.add_argument('--actors', type=int, default=1, help='detectors, one CPU core each')
    parser.add_argument('--address', help='address of the cluster (default: a local one)')
    args = parser.parse_args()
    shards = [shard for shard in find_shards(args.inputs) if shard.tar is not None]
    rows = [{'name': each.name, 'tar': str(Path(each.tar or '').resolve())} for each in shards]
    ray.init(address=args.address, log_to_driver=False)
    model, out = str(Path(args.model).resolve()), str(args.out.resolve())
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    done = data.map(
        ShardDetector,
        fn_constructor_args=(model, args.score_thr, out),
        compute=ray.data.ActorPoolStrategy(size=args.actors),
        num_cpus=1,
        max_restarts=-1,
        max_task_retries=-1,
    ).take_all()
    errors = [row['error'] for row in done if row['error']]
    images, failed = (sum(row[key] for row in done) for key in ('images', 'failed'))
    print(f'{args.out}: {len(done)} shards, {images} images, {failed} of them could not be used')
    if errors:
        raise ValueError('; '.join(errors))


if __name__ == '__main__':
    main_guard(main)
