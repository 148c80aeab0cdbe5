# CenterNet2 with DLA-34 and a BiFPN of strides 8 to 128, on COCO. Resize and crop as in
# EfficientDet. 49.2 AP in the reference, which also used pseudo labels of unlabelled COCO images.
# Numbers: xingyizhou CenterNet2 configs/CenterNet2_DLA-BiFPN-P5_640_16x.yaml.
_base_ = './centernet2_r50_1x.py'
max_iters = 360_000
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],  # red, green, blue
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=128,
    ),
    backbone=dict(_delete_=True, type='DLA34'),
    neck=dict(
        _delete_=True,
        type='BiFPN',
        in_channels=[128, 256, 512],
        out_channels=160,
        num_outs=5,
        num_cells=3,
    ),
    rpn_head=dict(in_channels=160),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=160), bbox_head=dict(in_channels=160)),
    test_cfg=dict(rpn=dict(max_per_img=128)),
)
size = (640, 640)
train_steps = _base_.train_steps
train_steps.resize = dict(
    type='RandomResize', scale=size, ratio_range=(0.1, 2.0), resize_type='Resize', **_base_.resize
)
train_steps.crop = dict(type='RandomCrop', crop_size=size, allow_negative_crop=True)
train_pipeline = list(filter(None, train_steps.values()))
train_dataloader = dict(
    batch_size=8,  # per card, 8 cards
    num_workers=8,
    dataset=dict(pipeline=train_pipeline),
)
test_steps = _base_.test_steps
test_steps.resize.scale = (608, 900)
test_pipeline = list(test_steps.values())
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=0.08))
cosine = dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, T_max=max_iters)
param_scheduler = [_base_.warmup, cosine]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
auto_scale_lr = dict(base_batch_size=64)
