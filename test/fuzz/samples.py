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
YOLO = b'0 0.2 0.3 0.1 0.15 0.2 0.3 2 0.25 0.3 1 0 0 0\n\n1 0.5 0.5 1e-1 .25\n'
YOLO_YAML = (
    b'names:\n  0: face\n  1: mask\nkpt_shape: [3, 3]\nflip_idx: [1, 0, 2]\n',
    b'names: [face, "mask"]\nnc: 2\nkpt_shape: [3, 3]\nkpt_names: {0: [eye_l, eye_r, nose]}\n',
    b'x: &n [face, mask]\nnames: *n\nkpt_shape: !!python/tuple [3, 3]\n',
)
LABELME = (
    b'{"version": "5", "flags": {}, "imagePath": "a.jpg", "imageWidth": 64, "imageHeight": 48, '
    b'"imageData": null, "shapes": [{"label": "face", "points": [[1, 2], [30.5, 40]], '
    b'"group_id": 1, "shape_type": "rectangle", "flags": {"ignore": true}}, {"label": "left_eye", '
    b'"points": [[3, 4]], "group_id": 1, "shape_type": "point", "flags": {}}, {"label": "face", '
    b'"points": [[1, 2], [9, 2], [5, 9]], "group_id": null, "shape_type": "polygon"}]}'
)
VOC = (
    b'<?xml version="1.0" encoding="utf-8"?><annotation><folder>0--A</folder><filename>a.jpg'
    b'</filename><size><width>64</width><height>48</height></size><object><name>face</name>'
    b'<difficult>1</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3.5</xmax><ymax>9</ymax>'
    b'</bndbox></object><object><name>mask &amp; face</name><bndbox><xmin>1</xmin><ymin>2</ymin>'
    b'<xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>'
)
WIDER_TXT = b'a\n3\n1 2 3 4 0.9\n5.25 6 7 8 0.5\n1,2,3,4,1e-3\n'
PART = b'0--A/a.jpg\n1--B/b.jpg\n\n2--C/c\n'
