# CenterFace on eight cards in mixed precision O1, with the values of the Ascend model zoo: batch 16
# per card, lr 2.5e-3, steps 85 and 120. Start it with tools/dist_train.sh.
_base_ = './centerface_1p_o1.py'
optim_wrapper = dict(optimizer=dict(lr=2.5e-3))
drops = dict(_base_.drops, milestones=[85, 120])
param_scheduler = [drops]
train_dataloader = dict(batch_size=16, num_workers=4)  # per card
auto_scale_lr = dict(base_batch_size=128)
