# SCRFD-10GF with keypoints on eight cards in mixed precision O2. Our own, like the 1p config.
_base_ = './scrfd_10g_bnkps_1p_o2.py'
optim_wrapper = dict(optimizer=dict(lr=0.06))
auto_scale_lr = dict(base_batch_size=256)
train_dataloader = dict(num_workers=3)  # per card
