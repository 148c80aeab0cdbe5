# The released network of Star-Clouds: 24 channels, dense up-sampling, ReLU, raw RGB. Tested at the
# original size, with each side stretched to a multiple of 32 (prj-python). Its training recipe was
# not published, so training uses that of centerface.py.
_base_ = './centerface.py'
test_steps = _base_.test_steps
test_steps.resize = dict(type='FaceStretch', divisor=32)
test_pipeline = list(test_steps.values())
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
# Every cell is a candidate. The overlap is computed with sides one pixel longer.
nms = dict(type='nms', iou_threshold=0.3, offset=1)
model = dict(
    data_preprocessor=dict(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0], bgr_to_rgb=True),
    backbone=dict(act_cfg=dict(type='ReLU')),
    neck=dict(out_channels=24, depthwise=False),
    bbox_head=dict(head_module=dict(in_channels=24), coder=dict(convention='star_clouds')),
    test_cfg=dict(peak=1, topk=-1, score_thr=0.05, nms=nms),
)
