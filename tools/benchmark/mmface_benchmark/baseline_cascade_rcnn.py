# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""mmdet's Cascade R-CNN, the standard detector that is most similar to CenterNet2."""

from __future__ import annotations

from copy import deepcopy


def cascade_rcnn(model: dict) -> dict:
    """Return the config of mmdet's Cascade R-CNN on the backbone of a CenterNet2.

    The values are those of mmdet's ``cascade-rcnn_r50_fpn_1x_coco``: RPN over five levels from
    stride 4, 2000 proposals, 512 samples per stage. It is a baseline for speed.

    Args:
        model: Config of a ``CenterNet2`` model with a ResNet and an FPN.
    """
    num_classes = model['roi_head']['bbox_head']['num_classes']
    neck = {key: model['neck'][key] for key in ('type', 'in_channels', 'out_channels')}

    def bbox_head(scale: float) -> dict:
        return dict(
            type='Shared2FCBBoxHead',
            in_channels=neck['out_channels'],
            fc_out_channels=model['roi_head']['bbox_head']['fc_out_channels'],
            roi_feat_size=7,
            num_classes=num_classes,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0] * 4,
                target_stds=[0.1 / scale, 0.1 / scale, 0.2 / scale, 0.2 / scale],
            ),
            reg_class_agnostic=True,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
        )

    def stage(iou: float) -> dict:
        return dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=iou,
                neg_iou_thr=iou,
                min_pos_iou=iou,
                match_low_quality=False,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type='RandomSampler',
                num=512,
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            pos_weight=-1,
            debug=False,
        )

    proposals = dict(
        nms_pre=2000, max_per_img=2000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0
    )
    return dict(
        type='CascadeRCNN',
        data_preprocessor=deepcopy(model['data_preprocessor']),
        backbone=deepcopy(model['backbone']),
        neck=dict(neck, num_outs=5),
        rpn_head=dict(
            type='RPNHead',
            in_channels=neck['out_channels'],
            feat_channels=neck['out_channels'],
            anchor_generator=dict(
                type='AnchorGenerator',
                scales=[8],
                ratios=[0.5, 1.0, 2.0],
                strides=[4, 8, 16, 32, 64],
            ),
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[1.0] * 4
            ),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
            loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9, loss_weight=1.0),
        ),
        roi_head=dict(
            type='CascadeRoIHead',
            num_stages=3,
            stage_loss_weights=[1, 0.5, 0.25],
            bbox_roi_extractor=dict(
                type='SingleRoIExtractor',
                roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
                out_channels=neck['out_channels'],
                featmap_strides=[4, 8, 16, 32],
            ),
            bbox_head=[bbox_head(scale) for scale in (1, 2, 3)],
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=0.7,
                    neg_iou_thr=0.3,
                    min_pos_iou=0.3,
                    match_low_quality=True,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(
                    type='RandomSampler',
                    num=256,
                    pos_fraction=0.5,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=False,
                ),
                allowed_border=0,
                pos_weight=-1,
                debug=False,
            ),
            rpn_proposal=proposals,
            rcnn=[stage(iou) for iou in (0.5, 0.6, 0.7)],
        ),
        test_cfg=dict(
            rpn=proposals,
            rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
        ),
    )
