# CenterNet2 with ResNet-50 and FPN, on COCO: the published 1x schedule, 42.9 AP in the reference.
_base_ = [
    '../_base_/models/centernet2_r50.py',
    '../_base_/datasets/coco_centernet2.py',
    '../_base_/schedules/centernet2_1x.py',
    '../_base_/iteration_runtime.py',
]
# Draws class names, which are not needed for faces.
visualizer = dict(type='DetLocalVisualizer')
