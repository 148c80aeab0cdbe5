# CenterFace trained on WIDER FACE: what all of configs/centerface start from.
# The references start from ImageNet weights: convert torchvision's mobilenet_v2 with
# tools/weights/convert.py and add model = dict(backbone=dict(init_cfg=dict(type='Pretrained',
# checkpoint='weights/mobilenet_v2.pth', prefix='backbone.'))). Without, it trains from scratch.
_base_ = [
    './models/centerface.py',
    './datasets/wider_face_centerface.py',
    './schedules/centerface_140e.py',
    './default_runtime.py',
]
# Convolutions on a CPU take less time so; no operator of mmcv is between them.
cpu_channels_last = True
# Often enough that a broken run loses little; the last three and the best are kept.
default_hooks = dict(checkpoint=dict(interval=5, save_best='wider_face/hard', rule='greater'))
