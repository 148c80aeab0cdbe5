# CenterNet2 with ResNeXt-101 32x8d and deformable convolutions, on COCO: 49.9 AP in the reference.
# Numbers: xingyizhou CenterNet2 configs/CenterNet2_X101-DCN_2x.yaml.
_base_ = './centernet2_r50_1x.py'
max_iters = 180_000
model = dict(
    data_preprocessor=dict(std=[57.375, 57.12, 58.395]),  # blue, green, red
    backbone=dict(
        type='ResNeXt',
        depth=101,
        groups=32,
        base_width=8,
        style='pytorch',  # stride in the 3x3 convolution
        dcn=dict(type='DCNv2', deform_groups=1),
        stage_with_dcn=(False, False, True, True),
    ),
    rpn_head=dict(dcn_on_last_conv=True),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[8, 16])),
)
train_steps = _base_.train_steps
train_steps.resize = dict(
    type='RandomResize', scale=[(1333, 480), (1333, 960)], resize_type='Resize', **_base_.resize
)
train_pipeline = list(filter(None, train_steps.values()))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
drops = dict(_base_.drops, milestones=[120_000, 160_000], end=max_iters)
param_scheduler = [_base_.warmup, drops]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
