# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The account that ``detect`` gives of its inputs at the end."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from mmface.apis.detect.images import NETWORK_FAILS, UNDECODABLE
from mmface.apis.detect.videos import NEEDS_VIDEO
from mmface.utils.files import whole_file
from mmface.utils.sources import NEEDS_HEIF, count_reasons
from mmface.utils.walk import UNREADABLE, Skipped

#: Reasons for which an image or video that should have a result has none.
FAILURES = (UNDECODABLE, NETWORK_FAILS, UNREADABLE, NEEDS_HEIF, NEEDS_VIDEO)
#: List of all skipped files in the folder of the results.
SKIPPED = 'skipped.csv'
#: Files that are named on standard error for each reason.
NAMED = 5


def write_skipped(folder: Path, skipped: Sequence[Skipped]) -> None:
    """Write the skipped files into a table, or remove the table of an earlier run."""
    path = folder / SKIPPED
    if not skipped:
        path.unlink(missing_ok=True)
        return
    with whole_file(path) as tmp, tmp.open('w', encoding='utf-8', newline='') as file:
        table = csv.writer(file, lineterminator='\n')
        table.writerow(Skipped._fields)
        for item in skipped:
            # Names of files may have bytes that are not UTF-8.
            cells = [str(cell).encode('utf-8', 'backslashreplace').decode() for cell in item]
            table.writerow(cells)


def tell_skipped(skipped: Sequence[Skipped], failed: Sequence[Skipped]) -> None:
    """Name files on standard error: some of each reason, and all that failed with the message."""
    left: dict[str, list[Skipped]] = {}
    for item in skipped:
        left.setdefault(item.reason, []).append(item)
    for reason, items in left.items():
        detail = f' ({items[0].detail})' if items[0].detail else ''
        names = ', '.join(str(item.path) for item in items[:NAMED])
        more = f' and {len(items) - NAMED} more' if len(items) > NAMED else ''
        sys.stderr.write(f'skipped: {reason}{detail}: {names}{more}\n')
    for item in failed:
        sys.stderr.write(f'error: {item.detail}\n')


def summary(done: int, existed: int, skipped: Sequence[Skipped]) -> str:
    """Return one line in which the numbers add up."""
    parts = [f'{done} done']
    if existed:
        parts.append(f'{existed} existed already')
    if skipped:
        parts.append(f'{len(skipped)} skipped ({count_reasons(skipped)})')
    return f'{done + existed + len(skipped)} inputs: {", ".join(parts)}'
