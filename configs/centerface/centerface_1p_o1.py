# CenterFace on one card in mixed precision O1, with the values of the Ascend model zoo: batch 32,
# lr 5e-4, steps 75 and 95, 160 epochs (its script; its table says 140), static loss scale 19.
_base_ = './centerface.py'
max_epochs = 160
optim_wrapper = dict(type='AutocastOptimWrapper', loss_scale=19.0, optimizer=dict(lr=5e-4))
drops = dict(_base_.drops, milestones=[75, 95], end=max_epochs)
param_scheduler = [drops]
train_cfg = dict(max_epochs=max_epochs)
train_dataloader = dict(batch_size=32, num_workers=12)
auto_scale_lr = dict(base_batch_size=32)
