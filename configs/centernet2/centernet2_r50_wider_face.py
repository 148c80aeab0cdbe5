# CenterNet2 as a face detector: WIDER FACE, one class, WIDER FACE evaluation. Our own recipe: crop
# and resize of SCRFD, and CenterNet2's 1x schedule, which is 112 epochs here.
_base_ = [
    '../_base_/models/centernet2_r50.py',
    '../_base_/datasets/wider_face.py',
    '../_base_/schedules/centernet2_1x.py',
    '../_base_/iteration_runtime.py',
]
# An image contains up to two thousand faces, many with low scores.
rcnn = dict(score_thr=0.02, nms=dict(type='nms', iou_threshold=0.5), max_per_img=1000)
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1)),
    test_cfg=dict(rpn=dict(max_per_img=1000), rcnn=rcnn),
)
# All training images have the same size, so batches need no grouping by shape.
batch_sampler = dict(type='EndlessBatchSampler', by_shape=False)
train_dataloader = dict(batch_size=2, batch_sampler=batch_sampler)
