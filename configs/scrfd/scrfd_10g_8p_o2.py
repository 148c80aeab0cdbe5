# SCRFD-10GF on eight cards in mixed precision O2, with the values of the Ascend model zoo: batch 32
# per card, lr 0.06. Start it with tools/dist_train.sh or test/train_full_8p.sh.
_base_ = './scrfd_10g_1p_o2.py'
optim_wrapper = dict(optimizer=dict(lr=0.06))
auto_scale_lr = dict(base_batch_size=256)
train_dataloader = dict(num_workers=3)  # per card
