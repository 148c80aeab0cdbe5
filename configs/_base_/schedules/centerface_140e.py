# Common to the published CenterFace schedules: 140 epochs of Adam without warm-up, decay or
# averaging. Learning rate and steps are MindSpore's for one card. The variants set their own.

# ---- Often modified ----------------------------------------------------------------------
max_epochs = 140
base_lr = 5e-4
# ---- Possibly modified -------------------------------------------------------------------
steps = [90, 120]  # epochs at which the learning rate drops to a tenth
val_interval = 5
# ---- Normally not modified ---------------------------------------------------------------
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=base_lr, weight_decay=0))
drops = dict(
    type='MultiStepLR', by_epoch=True, begin=0, end=max_epochs, milestones=steps, gamma=0.1
)
param_scheduler = [drops]
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=max_epochs, val_interval=val_interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# `tools/train.py --auto-scale-lr` scales from this total batch.
auto_scale_lr = dict(enable=False, base_batch_size=8)
