# SCRFD-0.5GF: MobileNetV1, GroupNorm head shared by the strides.
_base_ = '../_base_/scrfd_wider_face.py'
model = dict(
    backbone=dict(
        type='MobileNetV1', stage_blocks=(2, 3, 2, 6), stage_planes=(16, 16, 40, 72, 152, 288)
    ),
    neck=dict(in_channels=[40, 72, 152, 288], out_channels=16),
    bbox_head=dict(
        head_module=dict(in_channels=16, feat_channels=64, stacked_convs=2, dw_conv=True)
    ),
)
