# SCRFD trained on WIDER FACE, without a backbone. Common base of all configs in configs/scrfd.
_base_ = [
    './models/scrfd.py',
    './datasets/wider_face.py',
    './schedules/scrfd_640e.py',
    './default_runtime.py',
]
# Training samples and test images fill the padded square.
model = dict(data_preprocessor=dict(pad_size=_base_.image_size))
# Makes convolutions on a CPU faster. Possible because the model uses no operator of mmcv.
cpu_channels_last = True
# Frequent, so that an interrupted run loses little. The last three and the best are kept.
default_hooks = dict(checkpoint=dict(interval=10, save_best='wider_face/hard', rule='greater'))
