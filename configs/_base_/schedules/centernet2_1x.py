# The published CenterNet2 schedule: 90,000 iterations of SGD, lr 0.02 for a total batch of 16.
# It counts iterations: combine it with `_base_/iteration_runtime.py`.

# ---- Often modified ----------------------------------------------------------------------
max_iters = 90_000
base_lr = 0.02
# ---- Possibly modified -------------------------------------------------------------------
steps = [60_000, 80_000]  # iterations at which the learning rate drops to a tenth
warmup_iters = 4000
val_interval = max_iters
# ---- Normally not modified ---------------------------------------------------------------
optim_wrapper = dict(
    type='OptimWrapper',
    # The decay applies to biases too, not to norms.
    optimizer=dict(type='SGD', lr=base_lr, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0),
    clip_grad=dict(type='value', clip_value=1.0),
)
# The full learning rate is reached in iteration `warmup_iters`, hence the + 1.
warmup = dict(type='LinearLR', start_factor=0.00025, by_epoch=False, begin=0, end=warmup_iters + 1)
drops = dict(
    type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=steps, gamma=0.1
)
param_scheduler = [warmup, drops]
train_cfg = dict(type='ResumableIterTrainLoop', max_iters=max_iters, val_interval=val_interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# 8 cards x 2 images in the reference; `tools/train.py --auto-scale-lr` scales from there.
auto_scale_lr = dict(enable=False, base_batch_size=16)
