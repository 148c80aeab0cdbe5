# CenterNet2 with the schedule of the Ascend model zoo (43.5 AP there): 70,000 iterations with a
# total batch of 64 (8 cards x 8 images), three times the images of the 1x schedule. One fixed
# image size, so that NPUs compile each operator once.
_base_ = './centernet2_r50_1x.py'
max_iters = 70_000
model = dict(data_preprocessor=dict(pad_size=(1344, 1344)))
train_dataloader = dict(batch_size=8, num_workers=8)  # per card
optim_wrapper = dict(optimizer=dict(lr=0.08))
drops = dict(_base_.drops, end=max_iters)  # the second drop, at 80,000, is never reached
param_scheduler = [_base_.warmup, drops]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
auto_scale_lr = dict(base_batch_size=64)
