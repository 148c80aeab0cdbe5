# COCO 2017 as CenterNet2 is trained on it: short sides drawn from six sizes, mirrored, nothing else.
#   <data_root>/{train,val}2017/*.jpg, annotations/instances_{train,val}2017.json
# tools/data/make_toy.py draws a small set in this layout. Images stay uint8; the model's
# data_preprocessor subtracts the mean and then pads with zeros to multiples of 32.

# ---- Often modified ----------------------------------------------------------------------
# The tools' --data-path replaces data_root; a config that inherits this one sets
# train_dataloader=dict(batch_size=..., num_workers=...).
data_root = 'data/coco/'
batch_size = 2  # images per card, 8 cards in the reference
num_workers = 4  # processes per card
# ---- Normally not modified ---------------------------------------------------------------
# (short, long) sides in pixels. Numbers: xingyizhou CenterNet2 configs/Base-CenterNet2.yaml and
# detectron2's defaults.
train_scales = [(640, 1333), (672, 1333), (704, 1333), (736, 1333), (768, 1333), (800, 1333)]
test_scale = (800, 1333)
# Bilinear as in the reference, which resizes with Pillow: antialiased when shrinking. OpenCV's
# has other pixels.
resize = dict(keep_ratio=True, backend='pillow')

# Named, so that a config that inherits this one changes a step by its name:
#   train_steps = _base_.train_steps
#   train_steps.resize.update(scales=[(480, 800)])
#   train_pipeline = list(filter(None, train_steps.values()))
train_steps = dict(
    seed=dict(type='SeedSample'),
    image=dict(type='LoadFaceImage'),
    annotations=dict(type='LoadAnnotations', box_type=None),  # plain arrays
    resize=dict(type='RandomChoiceResize', scales=train_scales, resize_type='Resize', **resize),
    crop=None,  # some models cut what was resized
    flip=dict(type='RandomFlip', prob=0.5),
    pack=dict(type='PackFaceInputs'),
)
train_pipeline = list(filter(None, train_steps.values()))
# Annotations come after the resizing: ground truth stays in pixels of the image as stored.
test_steps = dict(
    image=dict(type='LoadFaceImage'),
    resize=dict(type='Resize', scale=test_scale, **resize),
    annotations=dict(type='LoadAnnotations', box_type=None),
    pack=dict(type='PackFaceInputs'),
)
test_pipeline = list(test_steps.values())

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochIndexSampler', shuffle=True),
    # Upright images together, wide ones together: less padding.
    batch_sampler=dict(type='EndlessBatchSampler', by_shape=True),
    dataset=dict(
        type='CocoBoxDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        # Images without a box to learn are left out; crowds are none.
        filter_cfg=dict(filter_empty_gt=True),
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
        type='CocoBoxDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# With faster-coco-eval if that is installed, else with pycocotools.
val_evaluator = dict(
    type='CocoBoxMetric', ann_file=data_root + 'annotations/instances_val2017.json'
)
test_evaluator = val_evaluator
