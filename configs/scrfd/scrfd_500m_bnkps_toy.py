# SCRFD-0.5GF with landmarks for the drawn toy set of tools/quickstart.sh: minutes on a CPU.
_base_ = './scrfd_500m_bnkps.py'

# ---- Often modified ----------------------------------------------------------------------
image_size = (320, 320)  # width, height
max_epochs = 60
base_lr = 0.02
# ---- Normally not modified ---------------------------------------------------------------
train_pipeline = _base_.train_pipeline
train_pipeline[4].update(scale=image_size)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=image_size)
model = dict(data_preprocessor=dict(pad_size=image_size))
train_dataloader = dict(batch_size=16, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline), num_workers=1)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=base_lr), clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
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
default_hooks = dict(checkpoint=dict(interval=max_epochs), logger=dict(interval=15))
