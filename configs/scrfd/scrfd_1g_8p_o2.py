# SCRFD 1G on eight cards, with the recipe that the Ascend model zoo has for 10G: batch 32 per
# card, lr 0.06.
_base_ = './scrfd_1g_1p_o2.py'
optim_wrapper = dict(optimizer=dict(lr=0.06))
auto_scale_lr = dict(base_batch_size=256)
train_dataloader = dict(num_workers=3)  # per card
