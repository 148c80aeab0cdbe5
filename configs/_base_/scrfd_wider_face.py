# SCRFD trained on WIDER FACE, without a backbone: what all of configs/scrfd start from.
_base_ = [
    './models/scrfd.py',
    './datasets/wider_face.py',
    './schedules/scrfd_640e.py',
    './default_runtime.py',
]
default_hooks = dict(checkpoint=dict(interval=80, save_best='wider_face/hard', rule='greater'))
