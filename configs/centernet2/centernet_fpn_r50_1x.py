# CenterNet-FPN: the one-stage detector that CenterNet2 is based on, 40.2 AP in the reference. It
# has towers for classes and boxes, positives beside the centre, and half the learning rate.
# Numbers: xingyizhou CenterNet2 configs/CenterNet-FPN_R50_1x.yaml and Base-CenterNet-FPN.yaml.
_base_ = './centernet2_r50_1x.py'

num_classes = 80
model = dict(
    _delete_=True,
    type='SingleStageDetector',
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=_base_.model.backbone,
    neck=_base_.model.neck,
    bbox_head=dict(
        type='CenterNetOneStageHead',
        in_channels=256,
        num_classes=num_classes,
        targets=dict(type='CenterNetTargets', more_pos=True),
    ),
    train_cfg=None,
    test_cfg=dict(
        score_thr=0.05,
        nms_pre=1000,  # per level
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100,
    ),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
