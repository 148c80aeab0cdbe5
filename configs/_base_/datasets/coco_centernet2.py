# COCO 2017 for CenterNet2. Augmentation: short side drawn from six sizes and flip, nothing else.
#   <data_root>/{train,val}2017/*.jpg, annotations/instances_{train,val}2017.json
# tools/data/make_toy.py draws a small set in this layout. Images stay uint8; the model's
# data_preprocessor subtracts the mean and then pads with zeros to multiples of 32.

# ---- Often modified ----------------------------------------------------------------------
# The tools' --data-path replaces data_root. A config that inherits this one sets
# train_dataloader=dict(batch_size=..., num_workers=...).
data_root = 'data/coco/'
batch_size = 2  # images per card, 8 cards in the reference
num_workers = 4  # processes per card
# ---- Normally not modified ---------------------------------------------------------------
# (short, long) sides in pixels. Numbers: xingyizhou CenterNet2 configs/Base-CenterNet2.yaml and
# detectron2's defaults.
train_scales = [(640, 1333), (672, 1333), (704, 1333), (736, 1333), (768, 1333), (800, 1333)]
test_scale = (800, 1333)
# Bilinear with Pillow as in the reference: antialiased when shrinking. OpenCV gives different
# pixels.
resize = dict(keep_ratio=True, backend='pillow')

# The steps have names, so that a config that inherits this one can change a step by name:
#   train_steps = _base_.train_steps
#   train_steps.resize.update(scales=[(480, 800)])
#   train_pipeline = list(filter(None, train_steps.values()))
train_steps = dict(
    seed=dict(type='SeedSample'),
    image=dict(type='LoadFaceImage'),
    annotations=dict(type='LoadAnnotations', box_type=None),  # plain arrays
    resize=dict(type='RandomChoiceResize', scales=train_scales, resize_type='Resize', **resize),
    crop=None,  # some models crop after the resize
    flip=dict(type='RandomFlip', prob=0.5),
    pack=dict(type='PackFaceInputs'),
)
train_pipeline = list(filter(None, train_steps.values()))
# Annotations come after the resize: ground truth stays in pixels of the image as stored.
test_steps = dict(
    # LoadFaceImage under the name that mmdet's DetInferencer looks for.
    image=dict(type='mmface.LoadImageFromFile'),
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
    # Batches of only upright or only wide images need less padding.
    batch_sampler=dict(type='EndlessBatchSampler', by_shape=True),
    dataset=dict(
        type='CocoBoxDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        # Skips images without a box for training. Crowds do not count as such boxes.
        filter_cfg=dict(filter_empty_gt=True),
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
        type='CocoBoxDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# Uses faster-coco-eval if it is installed, otherwise pycocotools.
val_evaluator = dict(
    type='CocoBoxMetric', ann_file=data_root + 'annotations/instances_val2017.json'
)
test_evaluator = val_evaluator
