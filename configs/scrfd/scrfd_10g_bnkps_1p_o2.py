# SCRFD-10GF with keypoints on one card in mixed precision O2. Our own: the Ascend model zoo's
# keypoint branch never worked. The values are those of its box-only model.
_base_ = ['./scrfd_10g_bnkps.py', '../_base_/precision/amp_o2.py']
optim_wrapper = _base_.precision
train_dataloader = dict(batch_size=32, num_workers=12)
