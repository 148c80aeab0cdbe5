# CenterNet2 on eight cards in mixed precision O2, static loss scale 128. The schedule is that of
# the Ascend model zoo, which trains in O1. Start it with tools/dist_train.sh or
# test/train_full_8p.sh.
_base_ = ['./centernet2_r50_ascend.py', '../_base_/precision/amp_o2.py']
optim_wrapper = _base_.precision
