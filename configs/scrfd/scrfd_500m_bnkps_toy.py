# SCRFD-0.5GF with keypoints for the drawn toy set of tools/quickstart.sh: minutes on a CPU.
# Our own recipe for 240 images. AdamW needs a few thousand iterations, the published schedule
# hundreds of epochs.
_base_ = './scrfd_500m_bnkps.py'

# ---- Often modified ----------------------------------------------------------------------
image_size = (320, 320)  # width, height
max_epochs = 36
base_lr = 0.005
# ---- Normally not modified ---------------------------------------------------------------
train_steps = _base_.train_steps
train_steps.crop.update(crop_choice=[0.6, 0.8, 1.0, 1.2, 1.4], size=image_size[0])
train_pipeline = list(train_steps.values())
test_steps = _base_.test_steps
test_steps.resize.update(scale=image_size)
test_pipeline = list(test_steps.values())
model = dict(data_preprocessor=dict(pad_size=image_size))
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
