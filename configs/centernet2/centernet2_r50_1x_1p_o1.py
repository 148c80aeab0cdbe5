# CenterNet2 on one card in mixed precision O1, static loss scale 128. Batch and fixed size are
# those of the Ascend model zoo. Its one-card runs are short measurements with the learning rate for
# 64 images. The schedule is the published 1x scaled to batch 8: half the rate, twice the
# iterations.
_base_ = './centernet2_r50_1x.py'
max_iters = 180_000
model = dict(data_preprocessor=dict(pad_size=(1344, 1344)))
train_dataloader = dict(batch_size=8, num_workers=8)
optim_wrapper = dict(type='AutocastOptimWrapper', loss_scale=128.0, optimizer=dict(lr=0.01))
drops = dict(_base_.drops, milestones=[120_000, 160_000], end=max_iters)
param_scheduler = [_base_.warmup, drops]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
auto_scale_lr = dict(base_batch_size=8)
