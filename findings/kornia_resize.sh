#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# kornia resizes the image with one rule and its boxes and keypoints with another
#
# Versions:  kornia 0.9.0, torch 2.14.1
# Expected:  Resize by a factor of 4 multiplies box corners and keypoints by 4, as it does with the
#            image.
# Seen:      The image is resized with aligned pixel edges. Boxes and keypoints are multiplied by
#            (new - 1) / (old - 1), as if pixel centres at the corners were aligned: 199 / 49 =
#            4.06 for 50 to 200 pixels. A box of the whole image ends at 203.06 in an image of 200
#            pixels.
# Matters:   Labels move by up to 3 pixels when small images are enlarged by 4, and by up to half a
#            pixel when images are reduced. Enlarging is what people do for small faces.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.14.1 kornia==0.9.0 numpy==2.4.6 || exit 2
env/bin/python - << 'PY'
import torch
import kornia.augmentation as K

image = torch.zeros(1, 3, 50, 50)
image[..., 20:50, 20:50] = 1  # a bright square up to the corner of the image
box = torch.tensor([[[20.0, 20, 50, 50]]])
point = torch.tensor([[[50.0, 50]]])
resize = K.AugmentationSequential(
    K.Resize((200, 200)), data_keys=['input', 'bbox_xyxy', 'keypoints']
)
image, box, point = resize(image, box, point)
bright = (image[0, 0] > 0.5).nonzero()
edges = (bright.min().item(), bright.max().item() + 1)
corner = [round(v, 2) for v in box[0, 0, 2:].tolist()]
print('square in the image', edges, 'box', [round(v, 2) for v in box.flatten().tolist()])
assert edges == (80, 200), edges
assert corner == [203.06, 203.06], corner
assert [round(v, 2) for v in point.flatten().tolist()] == [203.06, 203.06], point
PY
