# CenterNet2 on eight cards in mixed precision O1, static loss scale 128, with the values of the
# Ascend model zoo.
_base_ = './centernet2_r50_ascend.py'
optim_wrapper = dict(type='AutocastOptimWrapper', loss_scale=128.0)
