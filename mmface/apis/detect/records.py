# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read the JSON results of a run, and write them as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmface.apis.detect.results import Results
from mmface.utils.files import whole_file
from mmface.utils.sources import Source

COLUMNS = ('file', 'frame', 'seconds', 'track', 'class', 'score', 'x1', 'y1', 'x2', 'y2')


class Record(NamedTuple):
    """The faces of an image or frame.

    Attributes:
        source: Where they were found.
        found: The JSON object that ``detect`` has written.
    """

    source: Source
    found: dict[str, Any]


def read_records(results: Results, sources: Iterable[Source]) -> Iterator[Record]:
    """Iterate over the JSON results of those ``sources`` that have one."""
    for source in sources:
        path = results.targets(source)[1]
        if not path.is_file():
            continue
        with path.open(encoding='utf-8') as file:
            for line in file:
                yield Record(source, json.loads(line))


def write_csv(path: Path, records: Iterable[Record]) -> None:
    """Write a row for each face of images and videos.

    The last column has the keypoints as numbers x, y, x, y ... with spaces in between.
    """
    with whole_file(path) as tmp, tmp.open('w', encoding='utf-8', newline='') as file:
        table = csv.writer(file, lineterminator='\n')
        table.writerow([*COLUMNS, 'keypoints'])
        for source, found in records:
            for face in found['faces']:
                points = [value for point in face['keypoints'] or () for value in point]
                # Names of files may have bytes that are not UTF-8.
                name = source.name.as_posix().encode('utf-8', 'backslashreplace').decode()
                row = {**found, **face, 'file': name}
                row |= dict(zip(('x1', 'y1', 'x2', 'y2'), face['bbox'], strict=True))
                cells = [row.get(key, '') for key in COLUMNS]
                table.writerow([*cells, ' '.join(map(str, points))])
