# CenterNet2 with Res2Net-101 26w4s and deformable convolutions, on COCO. Resize and crop as in
# EfficientDet. 51.2 AP in the reference.
# Numbers: xingyizhou CenterNet2 configs/CenterNet2_R2-101-DCN_896_4x.yaml.
_base_ = './centernet2_r50_1x.py'
max_iters = 180_000
model = dict(
    # RGB numbers for BGR images. The reference file has two INPUT sections: the second replaces the
    # first, which contains FORMAT: RGB.
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='Res2NetCaffe',
        depth=101,
        scales=4,
        base_width=26,
        dcn=dict(type='DCNv2', deform_groups=1),
        stage_with_dcn=(False, False, True, True),
    ),
    rpn_head=dict(dcn_on_last_conv=True),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[8, 16])),
)
size = (896, 896)
train_steps = _base_.train_steps
train_steps.resize = dict(
    type='RandomResize', scale=size, ratio_range=(0.1, 2.0), resize_type='Resize', **_base_.resize
)
train_steps.crop = dict(type='RandomCrop', crop_size=size, allow_negative_crop=True)
train_pipeline = list(filter(None, train_steps.values()))
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.04))
cosine = dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, T_max=max_iters)
param_scheduler = [_base_.warmup, cosine]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
auto_scale_lr = dict(base_batch_size=32)
