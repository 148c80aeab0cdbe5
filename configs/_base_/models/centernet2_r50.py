# CenterNet2 (arXiv 2103.07461) with ResNet-50 and FPN, three stages after the proposals.
# CenterNet2-F is `model = dict(roi_head=dict(num_stages=1))`.
# Numbers: xingyizhou CenterNet2 configs/Base-CenterNet2.yaml, centernet/config.py, and the
# defaults of detectron2.

# ---- Possibly modified -------------------------------------------------------------------
# A child sets `model = dict(roi_head=dict(bbox_head=dict(num_classes=...)))`: 1203 for LVIS, 365
# for Objects365.
num_classes = 80
# True: no shape depends on the data, which suits NPUs. False: unneeded rows are dropped. None:
# True on NPUs. A child sets it for both rpn_head and roi_head.
fixed_shape = None
# ---- Normally not modified ---------------------------------------------------------------
model = dict(
    type='CenterNet2',
    data_preprocessor=dict(
        type='FaceDataPreprocessor',
        mean=[103.53, 116.28, 123.675],  # blue, green, red
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    # To start from ImageNet weights, convert R-50.pkl (MSRA) or its copy in MMDetection,
    # resnet50_msra-5891d200.pth, with tools/weights/convert.py and add
    # init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.').
    backbone=dict(
        type='ResNet',
        depth=50,
        style='caffe',  # stride in the 1x1 convolution
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
    ),
    neck=dict(
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        start_level=1,
        num_outs=5,
        add_extra_convs='on_output',
        relu_before_extra_convs=True,
        init_cfg=dict(type='Caffe2Xavier', layer='Conv2d'),
    ),
    rpn_head=dict(type='CenterNetProposalHead', in_channels=256, fixed_shape=fixed_shape),
    roi_head=dict(
        type='CenterNet2RoIHead',
        num_stages=3,
        fixed_shape=fixed_shape,
        delta_weights=[(10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15)],
        bbox_roi_extractor=dict(
            type='FixedShapeRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[8, 16, 32, 64, 128],
            finest_scale=112,  # boxes of 224 px belong to stride 16, as in the FPN paper
        ),
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=num_classes,
            reg_class_agnostic=True,
            loss_cls=dict(type='CrossEntropyLoss', loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
            init_cfg=[
                dict(type='Caffe2Xavier', override=dict(name='shared_fcs')),
                dict(type='Normal', std=0.01, override=dict(name='fc_cls')),
                dict(type='Normal', std=0.001, override=dict(name='fc_reg')),
            ],
        ),
    ),
    train_cfg=dict(
        rpn=None,
        rpn_proposal=dict(
            score_thr=1e-4,
            nms_pre=4000,  # per level
            nms=dict(type='nms', iou_threshold=0.9),
            max_per_img=2000,
        ),
        rcnn=dict(stage_ious=[0.6, 0.7, 0.8], num_samples=512, pos_fraction=0.25),
    ),
    test_cfg=dict(
        rpn=dict(
            score_thr=1e-4,
            nms_pre=1000,  # per level
            nms=dict(type='nms', iou_threshold=0.9),
            max_per_img=256,
        ),
        rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.7), max_per_img=100),
    ),
)
