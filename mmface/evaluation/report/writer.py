# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Write the report: a folder that a browser shows without a server and without a network."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import defaultdict
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mmface.evaluation.report.examples import Examples, choose, first_bins
from mmface.evaluation.report.study import DetectorStudy, Study
from mmface.evaluation.report.thumbnails import Job, find_image, make_thumbnails
from mmface.evaluation.wider_ap import count_along_scores
from mmface.utils.files import inside, whole_file, write_text

#: Detections shown on one image, and the images and faces of a gallery.
MAX_BOXES = 400
EXAMPLES = 120


def write_report(
    study: Study,
    folder: Path,
    images: Path | None = None,
    copy_images: bool = False,
    title: str = 'WIDER FACE',
    count: int = EXAMPLES,
) -> None:
    """Write ``index.html`` with its data and thumbnails.

    Args:
        study: The detectors.
        folder: Folder to write to; it is created, files of an earlier report are replaced.
        images: Folder with ``<event>/<image>.jpg``; without it the report has no galleries.
        copy_images: Whether to copy the images that are shown into the report. Otherwise they are
            linked by a relative path, so the report and the images must stay where they are.
        title: Title of the page.
        count: Number of images and of false finds for each detector, and of faces.

    Raises:
        FileNotFoundError: ``images`` has none of the images that are shown.
        OSError: A file cannot be written.
    """
    chosen = choose(study, count)
    data = _numbers(study, title)
    data['examples'] = _examples(study, chosen)
    shown = sorted(
        {image for own in chosen.images.values() for image in own} | _others(study, chosen)
    )
    data['shown'] = {
        number: {'boxes': {n: _boxes(own, number) for n, own in study.detectors.items()}}
        for number in sorted(shown)
    }
    folder.mkdir(parents=True, exist_ok=True)
    if images is not None:
        _add_thumbnails(study, chosen, data, folder, images, copy_images)
    template = files('mmface.evaluation.report') / 'template'
    for name in ('report.css', 'charts.js', 'report.js', 'gallery.js'):
        write_text(folder / name, (template / name).read_text(encoding='utf-8'))
    # A page opened from a file may not fetch JSON, but may load a script.
    text = json.dumps(_plain(data), separators=(',', ':'), allow_nan=False)
    write_text(folder / 'data.js', f'window.REPORT={text};\n')
    page = (template / 'index.html').read_text(encoding='utf-8')
    write_text(folder / 'index.html', page.replace('TITLE', _escape(title)))


def _numbers(study: Study, title: str) -> dict[str, Any]:
    gt = study.gt
    some = next(iter(study.detectors.values())).result
    bits = sum(gt.keep[subset].astype(int) << place for place, subset in enumerate(study.subsets))
    groups: dict[str, dict[str, Any]] = {}
    for piece in study.slices:
        group = groups.setdefault(
            piece.group,
            {
                'values': [],
                'of_images': piece.images is not None,
                'code': np.zeros(len(gt.boxes), int),
            },
        )
        group['code'][piece.faces] = len(group['values'])
        group['values'].append(piece.value)
    return {
        'title': title,
        'protocol': some.protocol,
        'iou': some.iou_thr,
        'partial': some.partial,
        'draws': study.draws,
        'subsets': list(study.subsets),
        'main': study.main,
        'max_boxes': MAX_BOXES,
        'images': list(gt.names),
        'splits': gt.splits,
        'images_with_faces': int((np.diff(gt.splits) > 0).sum()),
        'faces': {'box': gt.boxes.round(1), 'bits': bits},
        'groups': groups,
        'detectors': [_detector(name, own, study) for name, own in study.detectors.items()],
        'differences': [
            {'subset': subset, 'a': a, 'b': b, 'p': own.p, **vars(own.interval)}
            for subset, pairs in study.differences.items()
            for (a, b), own in pairs.items()
        ],
    }


def _detector(name: str, own: DetectorStudy, study: Study) -> dict[str, Any]:
    keep = study.gt.keep
    counts = {s: count_along_scores(own.matched, keep[s]) for s in study.subsets}
    return {
        'name': name,
        'detections': own.result.detections,
        'warnings': own.result.warnings(),
        'ap': {s: vars(own.ap[s]) for s in study.subsets},
        'faces': own.result.faces,
        'scores': own.operation[study.main].scores,
        'proposals': {s: counts[s][0] for s in study.subsets},
        'recalled': {s: counts[s][1] for s in study.subsets},
        'best_f1': {s: own.operation[s].best_f1 for s in study.subsets},
        'found': first_bins(own),
        'errors': {
            s: {'cost': own.errors[s].cost, 'count': own.errors[s].count} for s in study.subsets
        },
        'nme': own.result.nme,
        'slices': {
            s: [
                [piece.group, piece.value, piece.faces, piece.ap, piece.nme, piece.measured]
                for piece in own.slices[s]
            ]
            for s in study.subsets
        },
    }


def _examples(study: Study, chosen: Examples) -> dict[str, Any]:
    return {
        'images': chosen.images,
        'false_finds': {
            name: [_false_find(study.detectors[name], study.main, number) for number in own]
            for name, own in chosen.false_finds.items()
        },
        'faces': chosen.faces,
    }


def _false_find(own: DetectorStudy, subset: str, number: int) -> dict[str, Any]:
    matched = own.matched
    assert matched.boxes is not None
    return {
        'image': int(matched.image[number]),
        'box': matched.boxes[number].round(1),
        'score': float(matched.scores[number]),
        'bin': int(matched.bins[number]),
        'kind': int(own.errors[subset].kind[number]),
        'id': number,
    }


def _others(study: Study, chosen: Examples) -> set[int]:
    """Return the images of the chosen false finds and faces."""
    found = {
        int(study.detectors[name].matched.image[number])
        for name, own in chosen.false_finds.items()
        for number in own
    }
    places = np.searchsorted(study.gt.splits, chosen.faces, side='right') - 1
    return found | set(places.tolist())


def _boxes(own: DetectorStudy, image: int) -> list[list[Any]]:
    """Return x, y, w, h, score, threshold, and what it is: 0 a hit, 1 again, 2 no face."""
    matched = own.matched
    assert matched.boxes is not None
    start = int(matched.starts[image])
    end = min(int(matched.starts[image + 1]), start + MAX_BOXES)
    rows = []
    for place in range(start, end):
        if matched.bins[place] >= 1000:
            break
        what = 2 if matched.face[place] < 0 else 0 if matched.first[place] else 1
        box = matched.boxes[place].round(1).tolist()
        score = float(f'{matched.scores[place]:.4g}')
        rows.append([*box, score, int(matched.bins[place]), what])
    return rows


def _add_thumbnails(
    study: Study,
    chosen: Examples,
    data: dict[str, Any],
    folder: Path,
    images: Path,
    copy_images: bool,
) -> None:
    """Make thumbnails and crops, and add their places and the links to ``data``."""
    gt = study.gt
    crops: dict[int, dict[Path, Any]] = defaultdict(dict)
    image_of = np.searchsorted(gt.splits, chosen.faces, side='right') - 1
    for face, image in zip(chosen.faces, image_of.tolist(), strict=True):
        crops[image][folder / 'crops' / f'face_{face}.jpg'] = gt.boxes[face].tolist()
    for place, own in enumerate(data['examples']['false_finds'].values()):
        for find in own:
            path = folder / 'crops' / f'find_{place}_{find["id"]}.jpg'
            crops[find['image']][path] = find['box'].tolist()
    thumbs = {image for own in chosen.images.values() for image in own}
    jobs, sources = [], {}
    for image in data['shown']:
        source = find_image(images, gt.names[image])
        if source is not None:
            sources[image] = source
            thumb = folder / 'thumbs' / f'{image}.jpg' if image in thumbs else None
            jobs.append(Job(source, thumb, crops[image]))
    if data['shown'] and not jobs:
        some = gt.names[next(iter(data['shown']))]
        raise FileNotFoundError(
            f'expected the images in {images}, such as {some}.jpg, found none of those that the '
            'report shows'
        )
    sizes = make_thumbnails(jobs)
    for image, source in sources.items():
        if source not in sizes:
            continue
        entry = data['shown'][image]
        entry['size'] = sizes[source]
        if copy_images:
            target = inside(folder / 'images', f'{gt.names[image]}{source.suffix}')
            with whole_file(target, sync=False) as tmp:
                shutil.copyfile(source, tmp)
            source = target
        entry['link'] = quote(os.path.relpath(source.resolve(), folder.resolve()))


def _plain(value: Any) -> Any:
    """Convert to what JSON knows; NaN becomes null, floats keep six digits."""
    if isinstance(value, dict):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float | np.floating):
        number = float(value)
        if not math.isfinite(number):
            return None
        return int(number) if number.is_integer() else float(f'{number:.6g}')
    if isinstance(value, np.integer):
        return int(value)
    return value


def _escape(text: str) -> str:
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
