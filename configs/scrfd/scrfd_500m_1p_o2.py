# SCRFD 500M on one card, with the recipe that the Ascend model zoo has for 10G: O2, batch 32,
# lr 0.01, static loss scale 128, 12 workers. Otherwise the published schedule.
_base_ = ['./scrfd_500m.py', '../_base_/precision/amp_o2.py']
optim_wrapper = _base_.precision
train_dataloader = dict(batch_size=32, num_workers=12)
