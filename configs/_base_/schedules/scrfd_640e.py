# The published SCRFD schedule: 640 epochs of SGD, lr 0.01 for a total batch of 32.

# ---- Often modified ----------------------------------------------------------------------
max_epochs = 640
base_lr = 0.01
# ---- Possibly modified -------------------------------------------------------------------
steps = [440, 544]  # epochs at which the learning rate drops to a tenth
warmup_iters = 1500
val_interval = 80
# ---- Normally not modified ---------------------------------------------------------------
optim_wrapper = dict(
    type='OptimWrapper',
    # The decay applies to norms and biases too, as in the reference.
    optimizer=dict(type='SGD', lr=base_lr, momentum=0.9, weight_decay=5e-4),
)
# The full learning rate is reached in iteration `warmup_iters`, hence the + 1.
warmup = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup_iters + 1)
drops = dict(
    type='MultiStepLR', by_epoch=True, begin=0, end=max_epochs, milestones=steps, gamma=0.1
)
param_scheduler = [warmup, drops]
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=max_epochs, val_interval=val_interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# 4 cards x 8 images in the reference; `tools/train.py --auto-scale-lr` scales from there.
auto_scale_lr = dict(enable=False, base_batch_size=32)
