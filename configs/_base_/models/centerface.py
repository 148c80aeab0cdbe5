# CenterFace (arXiv 1911.03599) as trained by chenjun2hao and Ascend: neck of 64 channels with
# depthwise up-sampling, ReLU6 backbone, BGR images. Configs of other variants set the differences.
# Numbers: chenjun2hao CenterFace.pytorch src/lib/{opts_pose,models}, Ascend ModelZoo CenterFace.

# ---- Possibly modified -------------------------------------------------------------------
num_classes = 1
num_keypoints = 5  # 0: no keypoints
prior_prob = 0.1  # initial heatmap value; the references' 0.5 starts with a loss of a thousand
# ---- Normally not modified ---------------------------------------------------------------
model = dict(
    type='CenterFace',
    data_preprocessor=dict(
        type='FaceDataPreprocessor',
        # CenterNet's COCO values times 255, in the order blue, green, red.
        mean=[104.0136177, 114.0342201, 119.91659325],
        std=[73.6027614, 69.89082075, 70.91507925],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    backbone=dict(type='MobileNetV2Taps', width=1.0, act_cfg=dict(type='ReLU6')),
    neck=dict(type='IDAUpNeck', in_channels=[24, 32, 96, 320], out_channels=64, depthwise=True),
    bbox_head=dict(
        type='CenterFaceHead',
        num_classes=num_classes,
        num_keypoints=num_keypoints,
        head_module=dict(type='CenterFaceModule', in_channels=64, prior_prob=prior_prob),
        # keypoint_anchor='centre' gives the same keypoints as chenjun2hao's code.
        coder=dict(type='CenterFaceCoder', convention='centernet', keypoint_anchor='cell'),
        loss_heatmap=dict(type='DenseGaussianFocalLoss', alpha=2.0, gamma=4.0),
        loss_size=dict(type='SmoothL1Loss', beta=1.0, loss_weight=0.1),
        loss_offset=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
        loss_kps=dict(type='L1Loss', loss_weight=0.1),
    ),
    train_cfg=dict(
        targets=dict(
            type='GaussianTargets',
            min_overlap=0.7,
            small_face_weights=False,
            mask_ignored=False,  # True: ignored faces are not background
        )
    ),
    # The 200 highest of the 3x3 peaks, with any score; no `nms`.
    test_cfg=dict(peak=3, topk=200, score_thr=0.0, max_per_img=-1),
)
