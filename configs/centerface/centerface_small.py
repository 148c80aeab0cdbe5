# A CenterFace of a quarter of the size: half the backbone's channels, neck of 24 channels.
# Star-Clouds' small model was never released. This one uses chenjun2hao's recipe.
_base_ = './centerface.py'
model = dict(
    backbone=dict(width=0.5),
    neck=dict(in_channels=[16, 16, 48, 160], out_channels=24, depthwise=False),
    bbox_head=dict(head_module=dict(in_channels=24)),
)
