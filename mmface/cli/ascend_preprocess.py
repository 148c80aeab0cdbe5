# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Convert images to the bins that ais_bench feeds to an OM file, and write a manifest."""

from __future__ import annotations

import argparse
import hashlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from mmface.deploy.ascend.aipp import Aipp
from mmface.deploy.ascend.input_bins import (
    AIPP_NAME,
    check_folder,
    check_names,
    uint8_padding,
    write_input_bin,
)
from mmface.deploy.ascend.manifest import DTYPES, MANIFEST_NAME, BinManifest, bin_bytes
from mmface.deploy.ascend.om import network_outputs, om_spec, open_for_om
from mmface.deploy.model_spec import RESIZES
from mmface.utils.cli import make_parser
from mmface.utils.files import write_text
from mmface.utils.find_images import find_images
from mmface.utils.image_names import read_part
from mmface.utils.images import read_image
from mmface.utils.progress import progress_bar


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(
        f'{__doc__} float32: normalized, N x C x H x W. uint8: pixels, H x W x C in the channel '
        'order of the network, with an AIPP file that makes the NPU normalize them.',
        'python tools/deploy/ascend_preprocess.py data/WIDERFace bins --model centerface.onnx',
    )
    add = parser.add_argument
    add('images', type=Path, help='folder of images, or WIDER FACE (then val/images)')
    add('out', type=Path, help=f'folder for the bins and {MANIFEST_NAME}')
    add('--model', required=True, type=Path, help='the ONNX file that the OM is made from')
    add('--part', type=Path, metavar='LIST', help="only these images ('event/name.jpg' lines)")
    add('--dtype', choices=tuple(DTYPES), default='float32', help='kind of bins (default float32)')
    add('--size', type=int, nargs=2, metavar=('H', 'W'), help='input size, if the file has none')
    add(
        '--resize',
        choices=RESIZES,
        help="how images are resized (default: the model's way; centre if the model is tested on "
        'stretched images of their own size)',
    )
    return parser.parse_args(argv)


def check_space(folder: Path, needed: int) -> None:
    """Check that the disk has room for the bins.

    Raises:
        ValueError: There is too little space.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f'the bins need {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB left: use '
            'fewer images with --part, --dtype uint8 or another disk'
        )


def main() -> None:
    """Run the command."""
    args = parse_args()
    names = None if args.part is None else read_part(args.part)
    images = find_images(args.images, names)
    check_names(images)
    detector = open_for_om(args.model, args.size)
    spec = om_spec(detector.spec, args.resize)
    outputs = network_outputs(detector)
    check_folder(args.out, images)
    args.out.mkdir(parents=True, exist_ok=True)
    check_space(args.out, len(images) * bin_bytes(spec.size, args.dtype))
    # Without a manifest, the later steps reject the folder of an interrupted run.
    for name in (MANIFEST_NAME, AIPP_NAME):
        (args.out / name).unlink(missing_ok=True)

    with progress_bar(images.items(), unit='image') as bar:
        entries = tuple(
            write_input_bin(args.out, file, read_image(path), spec, args.dtype)
            for file, path in bar
        )
    uint8 = args.dtype == 'uint8'
    manifest = BinManifest(
        model=args.model.name,
        model_sha256=hashlib.sha256(args.model.read_bytes()).hexdigest(),
        spec=spec,
        dtype=args.dtype,
        padding=uint8_padding(spec) if uint8 else (),
        outputs=outputs,
        images=entries,
    )
    if uint8:
        write_text(args.out / AIPP_NAME, Aipp.from_spec(spec).to_text(spec.rgb))
    manifest.write(args.out / MANIFEST_NAME)

    height, width = spec.size
    kind = f'{height} x {width} x 3' if uint8 else f'1 x 3 x {height} x {width}'
    order = 'RGB' if spec.rgb else 'BGR'
    print(
        f'{len(images)} bins in {args.out}: {args.dtype} {kind} ({order}), '
        f'{manifest.bytes:,} bytes each, resize {spec.resize}'
    )
    for number, output in enumerate(outputs):
        print(f'  result _{number}: {output.name}, {math.prod(output.shape):,} floats')
    if uint8:
        print(f'pass {args.out / AIPP_NAME} to build_om.sh with --aipp')
