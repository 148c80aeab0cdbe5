# The small CenterFace for the drawn toy set of tools/data/make_toy.py: minutes on a CPU.
# Our own recipe for 240 images. AdamW needs a thousand iterations from random weights, where
# the published schedule needs a hundred epochs and ImageNet weights.
_base_ = './centerface_small.py'

# ---- Often modified ----------------------------------------------------------------------
image_size = 320
max_epochs = 26
base_lr = 0.005
# ---- Normally not modified ---------------------------------------------------------------
# With the published weight of 0.1, sizes and keypoints are learned long after the face centres.
model = dict(bbox_head=dict(loss_size=dict(loss_weight=1.0), loss_kps=dict(loss_weight=0.5)))
train_steps = _base_.train_steps
train_steps.crop.update(size=image_size, crop_choice=[0.6, 0.8, 1.0])
train_pipeline = list(train_steps.values())
test_steps = _base_.test_steps
test_steps.resize.update(size=image_size)
test_pipeline = list(test_steps.values())
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [_base_.val_evaluator, dict(type='KeypointNMEMetric')]
test_evaluator = val_evaluator
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=base_lr, weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        T_max=max_epochs,
        eta_min=0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(checkpoint=dict(interval=6), logger=dict(interval=30))
