# SCRFD-2.5GF: ResNetV1e, GroupNorm head shared by the strides.
_base_ = '../_base_/scrfd_wider_face.py'
model = dict(
    backbone=dict(
        type='ResNetV1e', stage_blocks=(3, 5, 3, 2), stage_planes=(24, 48, 48, 80), base_channels=24
    ),
    neck=dict(in_channels=[24, 48, 48, 80], out_channels=24),
    bbox_head=dict(head_module=dict(in_channels=24, feat_channels=64, stacked_convs=2)),
)
# The ResNet models do not clip boxes at the crop border, as in the reference.
train_dataloader = dict(dataset=dict(bbox_clip_border=False))
