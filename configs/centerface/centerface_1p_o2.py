# CenterFace on one card in mixed precision O2. Our own: the Ascend model zoo trains in O1.
# The schedule is that of its one-card run.
_base_ = ['./centerface_1p_o1.py', '../_base_/precision/amp_o2.py']
optim_wrapper = dict(**_base_.precision)
optim_wrapper.update(loss_scale=19.0)  # as in its O1 run
