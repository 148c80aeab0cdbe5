# CenterFace on eight cards in mixed precision O2. Our own, with the schedule of the Ascend model
# zoo's eight-card run.
_base_ = ['./centerface_8p_o1.py', '../_base_/precision/amp_o2.py']
optim_wrapper = dict(**_base_.precision)
optim_wrapper.update(loss_scale=19.0)  # as in its O1 run
