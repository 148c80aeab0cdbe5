# CenterNet2 with Res2Net-101 26w4s, deformable convolutions and a BiFPN, on COCO at 1280x1280:
# 52.9 AP in the reference (56.1 at 1560x1560 after the same number of further iterations with
# pseudo labels).
# Numbers: xingyizhou CenterNet2 configs/CenterNet2_R2-101-DCN-BiFPN_1280_4x.yaml.
_base_ = './centernet2_r2_101_dcn_896_4x.py'
model = dict(
    data_preprocessor=dict(bgr_to_rgb=True, pad_size_divisor=128),
    backbone=dict(out_indices=(1, 2, 3)),
    neck=dict(
        _delete_=True,
        type='BiFPN',
        in_channels=[512, 1024, 2048],
        out_channels=288,
        num_outs=5,
        num_cells=7,
    ),
    rpn_head=dict(in_channels=288),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=288), bbox_head=dict(in_channels=288)),
)
size = (1280, 1280)
train_steps = _base_.train_steps
train_steps.resize.scale = size
train_steps.crop.crop_size = size
train_pipeline = list(filter(None, train_steps.values()))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
