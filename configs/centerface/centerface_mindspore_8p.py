# CenterFace as MindSpore trains it on eight cards: batch 8 on each, lr 4e-3.
_base_ = './centerface_mindspore.py'
optim_wrapper = dict(optimizer=dict(lr=4e-3))
auto_scale_lr = dict(base_batch_size=64)
