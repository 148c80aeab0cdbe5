# SCRFD-1.3GF: ResNetV1e, GroupNorm head shared by the strides.
_base_ = [
    '../_base_/models/scrfd.py',
    '../_base_/datasets/wider_face.py',
    '../_base_/schedules/scrfd_640e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='ResNetV1e', stage_blocks=(3, 5, 3, 2), stage_planes=(16, 32, 40, 72), base_channels=16
    ),
    neck=dict(in_channels=[16, 32, 40, 72], out_channels=24),
    bbox_head=dict(head_module=dict(in_channels=24, feat_channels=48, stacked_convs=2)),
)
