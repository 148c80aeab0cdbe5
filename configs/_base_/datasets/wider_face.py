# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
# WIDER FACE in the layout that tools/data/prepare_widerface.py makes:
#   <data_root>/{train,val}/images/<event>/*.jpg, {train,val}/labelv2.txt, val/gt/*.mat
# Training samples are cut, resized and mirrored as uint8; the model's data_preprocessor
# normalises and pads them on the device, where that is no CPU changes their colours, too.

# ---- Often modified ----------------------------------------------------------------------
# The tools' --data-path replaces data_root; a config that inherits this one sets
# train_dataloader=dict(batch_size=..., num_workers=...).
data_root = 'data/WIDERFace/'
image_size = (640, 640)  # width, height; training samples are squares of this width
batch_size = 8  # images per card
num_workers = 2  # processes per card
# ---- Normally not modified ---------------------------------------------------------------
# SCRFD's sample redistribution (arXiv 2105.04714): crops up to twice the short side.
crop_choice = [0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]

# Named, so that a config that inherits this one changes a step by its name:
#   train_steps = _base_.train_steps
#   train_steps.crop.update(size=320)
#   train_pipeline = list(train_steps.values())
train_steps = dict(
    seed=dict(type='SeedSample'),
    annotations=dict(type='LoadFaceAnnotations'),
    # Reads the image too, but only down to the lower edge of the square.
    crop=dict(type='RandomSquareCrop', crop_choice=crop_choice, size=image_size[0]),
    flip=dict(type='FaceFlip', prob=0.5),
    photometric=dict(type='FacePhotometric'),
    pack=dict(type='PackFaceInputs'),
)
train_pipeline = list(train_steps.values())
# Annotations come after the resizing: ground truth stays in pixels of the image as stored.
test_steps = dict(
    image=dict(type='LoadFaceImage'),
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
        # So many images may be unreadable or missing before a training ends; bad_images.txt in
        # the work dir lists them. A share of the data set below 1, a number from 1 on.
        max_bad_images=0.001,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    # One image at a time: the padding, which GroupNorm sees, depends on that image alone.
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
