# CenterFace as trained by MindSpore on one card: 64 channels, dense up-sampling, ReLU6, 512x512,
# batch 8, lr 5e-4, steps 90 and 120. Tested at 832x832 (model_zoo official/cv/centerface).
_base_ = '../_base_/centerface_wider_face.py'
anchors = [16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 128, 256, 512]
train_steps = _base_.train_steps
train_steps.anchor.update(anchors=anchors, max_choices=11, min_keypoint_area=8)
train_steps.crop.update(size=512, crop_choice=[0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
train_pipeline = list(train_steps.values())
test_steps = _base_.test_steps
test_steps.resize.update(size=832)
test_pipeline = list(test_steps.values())
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
nms = dict(type='soft_nms', method='gaussian', sigma=0.5, min_score=1e-3, offset=1)
model = dict(
    neck=dict(depthwise=False),
    bbox_head=dict(coder=dict(convention='mindspore')),
    train_cfg=dict(targets=dict(small_face_weights=True)),
    # Pooling is not exact on MindSpore's devices, hence the tolerance.
    test_cfg=dict(peak_tolerance=1e-3, nms=nms),
)
