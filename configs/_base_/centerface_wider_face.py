# CenterFace trained on WIDER FACE, the common base of all configs in configs/centerface.
# The references start from ImageNet weights: convert torchvision's mobilenet_v2 with
# tools/weights/convert.py and add model = dict(backbone=dict(init_cfg=dict(type='Pretrained',
# checkpoint='weights/mobilenet_v2.pth', prefix='backbone.'))). Otherwise it trains from scratch.
_base_ = [
    './models/centerface.py',
    './datasets/wider_face_centerface.py',
    './schedules/centerface_140e.py',
    './default_runtime.py',
]
# Makes convolutions on a CPU faster. Possible because the model uses no operator of mmcv.
cpu_channels_last = True
# Frequent, so that an interrupted run loses little. The last three and the best are kept.
default_hooks = dict(checkpoint=dict(interval=5, save_best='wider_face/hard', rule='greater'))
