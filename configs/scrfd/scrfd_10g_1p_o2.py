# SCRFD-10GF on one card in mixed precision O2, with the values of the Ascend model zoo: batch
# 32, lr 0.01, static loss scale 128, 12 workers. Otherwise the published schedule.
_base_ = ['./scrfd_10g.py', '../_base_/precision/amp_o2.py']
optim_wrapper = _base_.precision
train_dataloader = dict(batch_size=32, num_workers=12)
