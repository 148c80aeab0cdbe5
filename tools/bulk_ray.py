# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find faces in tar shards on many machines with Ray Data: one Parquet file for each shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmface.apis.detect.render import MarkFaces
from mmface.apis.detect.results import Results
from mmface.apis.detect.shards import Shard, find_shards
from mmface.utils.cli import main_guard, make_parser, one_line
from mmface.utils.extras import optional_imports
from mmface.utils.sources import count_reasons
from mmface.utils.walk import Skipped


class ShardDetector:
    """Actor with one detector, which does whole shards.

    The files are written whole or not at all. So a shard that Ray runs again after its actor was
    killed has one result, with the same bytes.
    """

    def __init__(self, model: str, score_thr: float, out: str) -> None:
        from mmface.deploy.runtime import FaceDetector

        self.detector = FaceDetector(model, score_thr=score_thr, threads=1)
        self.out = Path(out)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do a shard. Errors are returned, because Ray would end the job on an exception."""
        from mmface.apis.detect.parquet import detect_shard

        shard = Shard(row['name'], Path(row['tar']))
        result: dict[str, Any] = {'name': shard.name, 'images': 0, 'failed': 0, 'error': ''}
        try:
            report = detect_shard(shard, self.out / f'{shard.name}.parquet', self.detector)
        except (ValueError, OSError) as error:
            return result | {'error': one_line(error)}
        return result | {'images': report.images, 'failed': report.failed}


def run(
    shards: Sequence[Shard], model: str, score_thr: float, out: Path, actors: int
) -> list[dict[str, Any]]:
    """Do all shards with the actors of the connected cluster. Return a row for each shard."""
    import ray

    rows = [{'name': each.name, 'tar': str(each.tar.resolve())} for each in shards if each.tar]
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        ShardDetector,
        fn_constructor_args=(model, score_thr, str(out.resolve())),
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=1,
    )
    return done.take_all()


def main() -> None:
    parser = make_parser(
        f'{__doc__} The model, the tar files and DIR need the same paths on every machine.',
        'python tools/bulk_ray.py shards --model scrfd_2.5g_bnkps.onnx --out faces --actors 64',
    )
    parser.add_argument('inputs', nargs='+', help='tar files, or folders with tar files')
    parser.add_argument('--model', required=True, metavar='FILE', help='ONNX file')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='for the results')
    parser.add_argument('--score-thr', type=float, default=0.5, help='lowest score (default 0.5)')
    parser.add_argument(
        '--actors', type=int, default=1, help='detectors with a core each; leave one core to Ray'
    )
    parser.add_argument('--address', help='address of the cluster (default: this machine)')
    args = parser.parse_args()
    with optional_imports():
        import ray
    settings = {'score_thr': args.score_thr, 'parquet': True}
    results = Results(args.out, [args.model], settings, MarkFaces())
    others: list[Skipped] = []
    found = find_shards(args.inputs, others=others)
    if others:
        print(f'{len(others)} files of the folders are in no shard: {count_reasons(others)}')
    loose = [shard.name for shard in found if shard.tar is None]
    if loose:
        raise ValueError(f'{loose[0]} is a list or a folder without tar files: expected tar files')
    shards = [
        shard
        for shard in found
        if not results.up_to_date([args.out / f'{shard.name}.parquet'], shard.tar)
    ]
    if not shards:
        print('nothing to do')
        return
    results.begin()
    ray.init(address=args.address, log_to_driver=False)
    done = run(shards, str(Path(args.model).resolve()), args.score_thr, args.out, args.actors)
    images, failed = (sum(row[key] for row in done) for key in ('images', 'failed'))
    print(f'{args.out}: {len(done)} shards, {images} images, {failed} of them could not be used')
    errors = [row['error'] for row in done if row['error']]
    if errors:
        raise ValueError('; '.join(errors))


if __name__ == '__main__':
    main_guard(main)
