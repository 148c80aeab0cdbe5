# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""How each project writes CenterFace's maps; shared by training and the runtime without torch."""

from __future__ import annotations

from typing import NamedTuple

#: Largest logarithm of a size that is decoded: 22,026 units, far more than any image, and
#: its exponential is finite.
MAX_LOG_SIZE = 10.0
#: Where keypoints of the frames 'map' and 'sized' are counted from.
KEYPOINT_ANCHORS = ('cell', 'centre')


class Convention(NamedTuple):
    """How one project writes its maps.

    Attributes:
        size_unit: Pixels of the input that a size is divided by before the logarithm.
        half_cell: Whether offset 0 is the middle of the cell instead of its left-top corner.
        rows_first: Whether pairs are (h, w) and (y, x) instead of (w, h) and (x, y).
        keypoint_frame: 'map', from the anchor in cells; 'sized', from the anchor in sides of
            the box; or 'box', from the box's left-top corner in sides of the box.
        clip: Whether decoding keeps boxes inside the image.
    """

    size_unit: float
    half_cell: bool
    rows_first: bool
    keypoint_frame: str
    clip: bool


#: Star-Clouds prj-python/centerface.py (its sizes are in input pixels, the others' in cells:
#: the same face differs by ln 4); chenjun2hao multi_pose.py and decode.py, used by Ascend;
#: MindSpore multi_pose.py.
CONVENTIONS = {
    'centernet': Convention(16.0, False, False, 'map', False),
    'star_clouds': Convention(4.0, True, True, 'box', True),
    'mindspore': Convention(16.0, False, False, 'sized', False),
}
