# SCRFD-1GF: MobileNetV1, GroupNorm head shared by the strides.
_base_ = '../_base_/scrfd_wider_face.py'
model = dict(
    backbone=dict(
        type='MobileNetV1', stage_blocks=(3, 2, 1, 5), stage_planes=(32, 48, 48, 160, 216, 312)
    ),
    neck=dict(in_channels=[48, 160, 216, 312], out_channels=24),
    bbox_head=dict(
        head_module=dict(
            in_channels=24,
            feat_channels=96,
            stacked_convs=2,
            dw_conv=True,
            norm_cfg=dict(num_groups=8),
        )
    ),
)
