# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Label formats that are known but not read: each is named in one sentence."""

from __future__ import annotations

import re

_REMEDY = 'is not read; export it as COCO JSON, YOLO, labelme or Pascal VOC'


def name_unread(source: str, text: str) -> None:
    """Refuse a file whose format is known but not read.

    Raises:
        ValueError: Names the format.
    """
    name = _json_kind(text) if text.lstrip()[:1] in ('{', '[') else _text_kind(text)
    if name:
        raise ValueError(f'{source} is {name}, which {_REMEDY}')


def _text_kind(text: str) -> str:
    start = text[:4000].lstrip()
    first = start.partition('\n')[0].strip()
    if start[:1] == '<':
        tag = re.search(r'<([A-Za-z][\w.-]*)', start)
        known = {'annotations': 'CVAT XML', 'dataset': 'XML of dlib', 'html': 'a web page'}
        return '' if tag is None else known.get(tag[1].lower(), '')
    if first.startswith('version:') and 'n_points' in start:
        return 'a .pts file of 68 points (300-W)'
    if 'region_shape_attributes' in first:
        return 'CSV of the VGG annotator (VIA)'
    if re.fullmatch(r'[A-Za-z_]\w*(\s*[,;]\s*[A-Za-z_#][\w ]*){2,}', first):
        return f'CSV with the columns {first[:80]}'
    words = first.split()
    if len(words) == 207 and re.search(r'\.(jpg|png)$', words[-1], re.I):
        return 'a list of 98 points (WFLW)'
    return ''


def _json_kind(text: str) -> str:
    """Return the kind of JSON. Only the beginning is parsed: such files may be large."""
    start = text[:4000]
    keys = set(re.findall(r'"(\w+)"\s*:', start))
    if '_via_settings' in keys or {'regions', 'filename'} <= keys:
        return 'JSON of the VGG annotator (VIA)'
    if start.lstrip()[0] == '[':
        if {'annotations', 'coordinates'} <= keys or {'imagefilename'} <= keys:
            return 'CreateML JSON'
        if {'image_id', 'bbox', 'score'} <= keys:
            return 'a list of COCO results (detections, not labels)'
        if 'annotations' in keys and ('data' in keys or 'result' in keys):
            return 'JSON of Label Studio'
    if {'classTitle', 'objects'} <= keys:
        return 'JSON of Supervisely'
    if 'dm_format_version' in keys or {'items', 'media_type'} <= keys:
        return 'JSON of Datumaro'
    return ''
