# SCRFD trained on WIDER FACE, without a backbone: what all of configs/scrfd start from.
_base_ = [
    './models/scrfd.py',
    './datasets/wider_face.py',
    './schedules/scrfd_640e.py',
    './default_runtime.py',
]
# Training samples and test images fill the padded square.
model = dict(data_preprocessor=dict(pad_size=_base_.image_size))
# Convolutions on a CPU take less time so; no operator of mmcv is between them.
cpu_channels_last = True
# Often enough that a broken run loses little; the last three and the best are kept.
default_hooks = dict(checkpoint=dict(interval=10, save_best='wider_face/hard', rule='greater'))
