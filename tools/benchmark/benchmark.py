# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Time parts of mmface against the usual alternatives, in turn, on this machine."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from mmface.utils.cli import main_guard, make_parser
from mmface.utils.files import write_text
from mmface.utils.quiet import import_mmdet_quietly

#: What each module of mmface_benchmark measures.
SUBJECTS = {
    'data': 'training pipelines of SCRFD and CenterFace, against those of the references',
    'assign': "assignment and losses of SCRFD, against mmdet's",
    'step': 'a training step, against the network alone',
    'ranks': 'a training step of several ranks, against the buckets of torch',
    'iteration': 'whole training iterations of a run, against the network alone',
    'inferencer': 'FaceInferencer with one image, against its network in onnxruntime',
    'test': 'tools/test.py, against the network and decoding alone',
    'eval': 'the WIDER FACE AP, against the usual Python port',
    'import': 'imports, and loading a data set of 12,880 images',
}
MODULES = {'test': 'testing', 'eval': 'evaluation', 'import': 'imports'}


def main() -> None:
    """Read the command line, run the benchmark and print a table for each task."""
    parser = make_parser(
        f'{__doc__} The first row of a table is mmface. Medians and quartiles are over rounds.',
        'python tools/benchmark/benchmark.py data configs/scrfd/scrfd_500m_bnkps.py '
        '--labels data/WIDERFace/train/labelv2.txt --images data/WIDERFace/train/images '
        '--json data.json',
    )
    subjects = parser.add_subparsers(dest='subject', required=True, metavar='SUBJECT')
    for name, text in SUBJECTS.items():
        subject = subjects.add_parser(name, help=text, description=f'Time {text}.')
        subject.add_argument('--rounds', type=int, default=10, help='timed rounds (%(default)s)')
        subject.add_argument('--json', type=Path, metavar='FILE', help='write all numbers there')
        # The other modules import torch and more. This takes seconds, which --help can save.
        if name in sys.argv[1:2]:
            import_mmdet_quietly()
            _module(name).add_arguments(subject)
    args = parser.parse_args()

    from mmface_benchmark.timing import format_table

    found = _module(args.subject).run(args)
    for comparison in found:
        print(format_table(comparison))
    if args.json is not None:
        numbers = [comparison.to_dict() for comparison in found]
        write_text(args.json, json.dumps(numbers, indent=2) + '\n')


def _module(subject: str) -> ModuleType:
    return import_module(f'mmface_benchmark.{MODULES.get(subject, subject)}')


if __name__ == '__main__':
    main_guard(main)
