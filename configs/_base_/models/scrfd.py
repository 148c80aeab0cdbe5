# SCRFD (arXiv 2105.04714), common parts of its models. A child adds the backbone and the widths
# of neck and head. BatchNorm models also set a separate head for each stride.
# Numbers: insightface detection/scrfd/configs/scrfd.

# ---- Possibly modified -------------------------------------------------------------------
num_classes = 1
num_keypoints = 0  # per face; 0: only boxes
score_thr = 0.02  # intentionally low: the WIDER FACE protocol integrates over all scores
nms_iou = 0.45
# ---- Normally not modified ---------------------------------------------------------------
model = dict(
    type='SCRFD',
    data_preprocessor=dict(
        type='FaceDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[128.0, 128.0, 128.0],
        bgr_to_rgb=True,
        # GroupNorm sees the padding: the published accuracies need this exact square.
        pad_size=(640, 640),
        pad_size_divisor=32,
    ),
    neck=dict(type='PAFPN', start_level=1, num_outs=3, add_extra_convs='on_output', norm_cfg=None),
    bbox_head=dict(
        type='SCRFDHead',
        num_classes=num_classes,
        num_keypoints=num_keypoints,
        head_module=dict(
            type='SCRFDModule',
            share_strides=True,
            norm_cfg=dict(type='GN', num_groups=16),
        ),
        # Two square priors per cell: 16 and 32, 64 and 128, 256 and 512 px; centred on the
        # cell's top-left corner.
        prior_generator=dict(
            type='AnchorGenerator',
            ratios=[1.0],
            scales=[1, 2],
            base_sizes=[16, 64, 256],
            strides=[8, 16, 32],
        ),
        loss_cls=dict(type='DenseQualityFocalLoss', beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='DIoULoss', loss_weight=2.0),
        loss_kps=dict(type='SmoothL1Loss', beta=1 / 9, loss_weight=0.1),
    ),
    train_cfg=dict(assigner=dict(type='BatchedATSSAssigner', topk=9, inside_mode=0)),
    test_cfg=dict(
        score_thr=score_thr,
        min_bbox_size=0,
        nms=dict(type='nms', iou_threshold=nms_iou),
        max_per_img=-1,  # no limit
    ),
)
