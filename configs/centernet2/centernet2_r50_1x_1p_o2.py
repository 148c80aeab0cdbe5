# CenterNet2 on one card in mixed precision O2, static loss scale 128.
_base_ = ['./centernet2_r50_1x_1p_o1.py', '../_base_/precision/amp_o2.py']
optim_wrapper = _base_.precision
