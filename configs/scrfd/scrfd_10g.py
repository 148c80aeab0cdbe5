# SCRFD-10GF: ResNetV1e, GroupNorm head shared by the strides.
_base_ = '../_base_/scrfd_wider_face.py'
model = dict(
    backbone=dict(
        type='ResNetV1e',
        stage_blocks=(3, 4, 2, 3),
        stage_planes=(56, 88, 88, 224),
        base_channels=56,
    ),
    neck=dict(in_channels=[56, 88, 88, 224], out_channels=56),
    bbox_head=dict(head_module=dict(in_channels=56, feat_channels=80, stacked_convs=3)),
)
# The ResNet models do not clip boxes at the crop border, as in the reference.
train_dataloader = dict(dataset=dict(bbox_clip_border=False))
