# CenterNet2 as a face detector: WIDER FACE, one class, its evaluation. Ours: images are cut and
# resized as for SCRFD, the schedule is CenterNet2's 1x, which is 112 epochs here.
_base_ = [
    '../_base_/models/centernet2_r50.py',
    '../_base_/datasets/wider_face.py',
    '../_base_/schedules/centernet2_1x.py',
    '../_base_/iteration_runtime.py',
]
# Up to two thousand faces are in an image, many of them weak.
rcnn = dict(score_thr=0.02, nms=dict(type='nms', iou_threshold=0.5), max_per_img=1000)
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1)),
    test_cfg=dict(rpn=dict(max_per_img=1000), rcnn=rcnn),
)
# All images of a batch have the same size, so none has to wait for others of its shape.
batch_sampler = dict(type='EndlessBatchSampler', by_shape=False)
train_dataloader = dict(batch_size=2, batch_sampler=batch_sampler)
