# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Small valid text files, which the fuzzer damages."""

from __future__ import annotations

LABELV2 = (
    b'# 0--A/a.jpg 640 480\n10 20 30 40\n1.5 2.5 100 200 1\n# 1--B/b c.jpg 32 32\n'
    b'1 2 9 9 ' + b'3 4 0 ' * 4 + b'-1 -1 -1\n1 2 9 9 ' + b'3 4 0 ' * 5 + b'0.5\n'
)
BBX_GT = (
    b'0--A/a.jpg\n2\n10 20 30 40 0 0 0 0 0 0 \n1 2 3 4 1 1 1 1 1 1 \n'
    b'1--B/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n2--C/c.jpg\n1\n5 5 5 5\n'
)
RETINAFACE = (
    b'# 0--A/a.jpg\n10 20 30 40 ' + b'3.5 4.5 0.0 ' * 5 + b'0.82\n1 2 3 4\n# 1--B/b.jpg\n'
    b'1 2 3 4 ' + b'-1 -1 -1 ' * 5 + b'0 1\n'
)
WIDER_TXT = b'a\n3\n1 2 3 4 0.9\n5.25 6 7 8 0.5\n1,2,3,4,1e-3\n'
PART = b'0--A/a.jpg\n1--B/b.jpg\n\n2--C/c\n'
