# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""See the training samples of a config with their labels, and statistics of the labels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmface.utils.cli import dict_action, make_parser
from mmface.utils.extras import optional_imports
from mmface.utils.files import whole_file
from mmface.utils.quiet import import_mmdet_quietly

#: Longer side of a sample in a sheet, in pixels, and samples of a sheet.
SIDE, COLUMNS, ROWS = 480, 4, 3


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        'Write contact sheets of the samples that a config trains on, after augmentation, with '
        'boxes (green), ignored faces (grey, crossed) and numbered keypoints: red and blue ones '
        'are pairs that change places in a mirrored image, yellow ones are in the middle. Print '
        'statistics of the labels, and plot them into statistics.png.',
        'python tools/data/browse_dataset.py configs/scrfd/scrfd_500m_bnkps.py '
        '--data-path data/WIDERFace --out out/browse',
    )
    add = parser.add_argument
    add('config', help='config file, or the name of a config')
    add('--data-path', help='folder of the data set (default: data_root of the config)')
    add('--out', type=Path, default=Path('out/browse'), help='folder to write (out/browse)')
    add('--split', choices=('train', 'val', 'test'), default='train', help='which data (train)')
    add('--count', type=int, default=24, help='samples to draw, spread over the data set (24)')
    add('--epoch', type=int, default=0, help='each epoch has other augmentations (0)')
    add('--seed', type=int, default=0, help='seed of the augmentation (0)')
    add('--image-size', type=int, metavar='N', help='side of the images, a multiple of 32')
    add('--cfg-options', nargs='+', metavar='KEY=VALUE', help='config values', **dict_action())
    args = parser.parse_args(argv)
    if args.count < 0:
        parser.error(f'--count must be 0 or more, not {args.count}')
    return args


def main() -> None:
    """Draw samples and write statistics."""
    args = parse_args()
    import_mmdet_quietly()
    with optional_imports():
        import matplotlib

        matplotlib.use('Agg')
        import matplotlib.pyplot as plt
    import numpy as np
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    from mmface.apis import config as edit
    from mmface.apis.image_size import set_image_size
    from mmface.datasets.statistics import LabelStatistics
    from mmface.utils.device import use_device
    from mmface.utils.epoch_index import EpochIndex
    from mmface.utils.images import write_image
    from mmface.visualization.label_sheet import contact_sheet, draw_labels

    use_device('cpu')  # so that all augmentation happens here
    cfg = edit.load_config(args.config, args.cfg_options)
    edit.set_data_path(cfg, args.data_path)
    if args.image_size is not None:
        set_image_size(cfg, args.image_size)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
    items = (dataset.get_data_info(index) for index in range(len(dataset)))
    statistics = LabelStatistics(items, dataset.metainfo)
    print(statistics.describe())
    tiles, sizes = [], []
    for index in np.linspace(0, len(dataset) - 1, min(args.count, len(dataset))).round():
        packed = dataset[EpochIndex(int(index), args.epoch, args.seed)]
        image = np.ascontiguousarray(packed['inputs'].numpy().transpose(1, 2, 0))
        sample = packed['data_samples']
        tiles.append(draw_labels(image, sample, dataset.metainfo, SIDE))
        boxes = np.asarray(
            getattr(sample.gt_instances.bboxes, 'tensor', sample.gt_instances.bboxes)
        )
        sizes.append(np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)))
    written: list[Path] = []
    for first in range(0, len(tiles), COLUMNS * ROWS):
        sheet = contact_sheet(tiles[first : first + COLUMNS * ROWS], COLUMNS, SIDE)
        written.append(args.out / f'samples_{len(written) + 1}.jpg')
        write_image(written[-1], sheet)
    figure = statistics.draw(plt, np.concatenate([np.zeros(0), *sizes]))
    written.append(args.out / 'statistics.png')
    args.out.mkdir(parents=True, exist_ok=True)
    with whole_file(written[-1]) as tmp:
        figure.savefig(tmp, dpi=100)
    print('written: ' + ', '.join(map(str, written)))
