# CenterFace as trained by MindSpore on eight cards: batch 8 per card, lr 4e-3.
_base_ = './centerface_mindspore.py'
optim_wrapper = dict(optimizer=dict(lr=4e-3))
auto_scale_lr = dict(base_batch_size=64)
