# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The map conventions of each CenterFace project, for training and the torch-free runtime."""

from __future__ import annotations

from typing import NamedTuple

#: Largest logarithm of a size that is decoded: 22,026 units, far more than any image. Its
#: exponential is finite.
MAX_LOG_SIZE = 10.0
#: Origin of the keypoints in the frames 'map' and 'sized'.
KEYPOINT_ANCHORS = ('cell', 'centre')


class Convention(NamedTuple):
    """The convention of one project for its maps.

    Attributes:
        size_unit: A size is divided by this, in pixels of the input, before the logarithm.
        half_cell: Whether offset 0 is the middle of the cell instead of its top-left corner.
        rows_first: Whether pairs are (h, w) and (y, x) instead of (w, h) and (x, y).
        keypoint_frame: 'map' is relative to the anchor, in cells; 'sized' is relative to the
            anchor, in sides of the box; 'box' is relative to the top-left corner of the box, in
            sides of the box.
        clip: Whether decoding clips boxes to the image.
    """

    size_unit: float
    half_cell: bool
    rows_first: bool
    keypoint_frame: str
    clip: bool


#: Star-Clouds prj-python/centerface.py; chenjun2hao multi_pose.py and decode.py, used by Ascend;
#: MindSpore multi_pose.py. The sizes of Star-Clouds are in input pixels, the others in cells:
#: for the same face they differ by ln 4.
CONVENTIONS = {
    'centernet': Convention(16.0, False, False, 'map', False),
    'star_clouds': Convention(4.0, True, True, 'box', True),
    'mindspore': Convention(16.0, False, False, 'sized', False),
}
