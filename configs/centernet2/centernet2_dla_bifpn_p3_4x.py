# CenterNet2 with DLA-34 and a BiFPN of strides 8 to 32, on COCO: 43.8 AP in the reference (45.6
# with 6 times the schedule). For ImageNet weights convert dla34-ba72cf86.pth.
# Numbers: xingyizhou CenterNet2 configs/CenterNet2_DLA-BiFPN-P3_4x.yaml.
_base_ = './centernet2_r50_1x.py'
max_iters = 360_000
sync_bn = 'torch'  # used in distributed training
model = dict(
    backbone=dict(_delete_=True, type='DLA34'),
    neck=dict(
        _delete_=True,
        type='BiFPN',
        in_channels=[128, 256, 512],
        out_channels=160,
        num_outs=3,
        num_cells=4,
        kind='fcos',
    ),
    rpn_head=dict(
        in_channels=160,
        strides=[8, 16, 32],
        targets=dict(type='CenterNetTargets', sizes_of_interest=[(0, 64), (48, 192), (128, 1e6)]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=160, featmap_strides=[8, 16, 32]),
        bbox_head=dict(in_channels=160),
    ),
    test_cfg=dict(rpn=dict(max_per_img=128)),
)
train_steps = _base_.train_steps
train_steps.resize.scales = [(side, 900) for side in range(256, 609, 32)]
train_pipeline = list(filter(None, train_steps.values()))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_steps = _base_.test_steps
test_steps.resize.scale = (512, 736)
test_pipeline = list(test_steps.values())
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
drops = dict(_base_.drops, milestones=[300_000, 340_000], end=max_iters)
param_scheduler = [_base_.warmup, drops]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
