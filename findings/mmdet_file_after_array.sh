#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# One array, and mmdet's inference_detector no longer reads files
#
# Versions:  onedl-mmdetection 3.5.1, onedl-mmengine 0.10.12, onedl-mmcv 2.3.6 (without operators,
#            which are not used), torch 2.13.0
# Expected:  inference_detector takes files and arrays in any order, as its docstring says.
# Seen:      After one array every file fails with KeyError: 'img'. The function changes the first
#            step of the pipeline in model.cfg.copy(), but Config.copy of mmengine copies the
#            outermost dict only, so model.cfg has LoadImageFromNDArray for good. A deep copy as
#            model.cfg of each call helps.
# Matters:   A service that finds faces in frames of a video and in files with one model stops at
#            a file, far from the call that changed the config.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
export MMCV_WITH_OPS=0
env/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 onedl-mmcv==2.3.6 \
  onedl-mmengine==0.10.12 onedl-mmdetection==3.5.1 numpy==2.2.6 || exit 2
env/bin/python - << 'PY'
import copy
import warnings

import cv2
import numpy as np

warnings.simplefilter('ignore')
from mmdet.apis import inference_detector
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import init_default_scope


class Detector(BaseModel):
    """Stands for a detector: gives the mean of the image, which shows that it came in."""

    def forward(self, inputs, data_samples, mode):
        return [round(float(image.float().mean())) for image in inputs]


def loader(config):
    return config.test_dataloader.dataset.pipeline[0].type


def answer(model, image):
    try:
        return inference_detector(model, image)
    except KeyError as error:
        return f'KeyError: {error}'


pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape')),
]
init_default_scope('mmdet')  # as init_detector does
config = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
deep = copy.deepcopy(config)
model = Detector(BaseDataPreprocessor())
model.cfg = config
image = np.full((64, 64, 3), 100, np.uint8)
cv2.imwrite('face.png', image)
seen = []
for name, value in (('file', 'face.png'), ('array', image), ('file', 'face.png')):
    seen.append((answer(model, value), loader(model.cfg)))
    print(f'{name}: {seen[-1][0]}; the config now starts with {seen[-1][1]}')
assert seen == [
    (100, 'LoadImageFromFile'),
    (100, 'mmdet.LoadImageFromNDArray'),
    ("KeyError: 'img'", 'mmdet.LoadImageFromNDArray'),
], seen
for value in (image, 'face.png'):
    model.cfg = copy.deepcopy(deep)
    assert answer(model, value) == 100
shallow = deep.copy()
shallow.test_dataloader.dataset.pipeline[0].type = 'changed'
assert loader(deep) == 'changed'
PY
