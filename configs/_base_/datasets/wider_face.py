# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
# WIDER FACE in the layout that tools/data/prepare_widerface.py creates:
#   <data_root>/{train,val}/images/<event>/*.jpg, {train,val}/labelv2.txt, val/gt/*.mat
# Training samples are cropped, resized and flipped as uint8. The model's data_preprocessor
# normalises and pads them on the device. Unless that is a CPU, it changes their colours too.

# ---- Often modified ----------------------------------------------------------------------
# The tools' --data-path replaces data_root. A config that inherits this one sets
# train_dataloader=dict(batch_size=..., num_workers=...).
data_root = 'data/WIDERFace/'
image_size = (640, 640)  # width, height; training samples are squares of this width
batch_size = 8  # images per card
num_workers = 2  # processes per card
# ---- Normally not modified ---------------------------------------------------------------
# SCRFD's sample redistribution (arXiv 2105.04714): crops up to twice the short side.
crop_choice = [0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]

# The steps have names, so that a config that inherits this one can change a step by name:
#   train_steps = _base_.train_steps
#   train_steps.crop.update(size=320)
#   train_pipeline = list(train_steps.values())
train_steps = dict(
    seed=dict(type='SeedSample'),
    annotations=dict(type='LoadFaceAnnotations'),
    # Reads the image too, but only down to the bottom of the square.
    crop=dict(type='RandomSquareCrop', crop_choice=crop_choice, size=image_size[0]),
    flip=dict(type='FaceFlip', prob=0.5),
    photometric=dict(type='FacePhotometric'),
    pack=dict(type='PackFaceInputs'),
)
train_pipeline = list(train_steps.values())
# Annotations come after the resize: ground truth stays in pixels of the image as stored.
test_steps = dict(
    # LoadFaceImage under the name that mmdet's DetInferencer looks for.
    image=dict(type='mmface.LoadImageFromFile'),
    resize=dict(type='FaceResize', scale=image_size, keep_ratio=True),
    annotations=dict(type='LoadFaceAnnotations'),
    pack=dict(type='PackFaceInputs'),
)
test_pipeline = list(test_steps.values())

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochIndexSampler', shuffle=True),
    dataset=dict(
        type='WiderFaceDataset',
        data_root=data_root,
        ann_file='train/labelv2.txt',
        data_prefix=dict(img_path='train/images/'),
        # The ResNet models of SCRFD are trained with False.
        bbox_clip_border=True,
        # Training stops if more images than this are unreadable or missing; bad_images.txt in the
        # work dir lists them. A value below 1 is a fraction of the data set.
        max_bad_images=0.001,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    # One image per batch: GroupNorm sees the padding, which then depends only on that image.
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=True,
    pin_memory=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='WiderFaceDataset',
        data_root=data_root,
        ann_file='val/labelv2.txt',
        data_prefix=dict(img_path='val/images/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='WiderFaceMetric', gt_dir=data_root + 'val/gt')
test_evaluator = val_evaluator
