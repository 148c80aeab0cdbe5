# CenterFace as trained by chenjun2hao: 64 channels, depthwise up-sampling, ReLU6, 800x800, batch 8.
_base_ = '../_base_/centerface_wider_face.py'
optim_wrapper = dict(optimizer=dict(lr=1.25e-4))
drops = dict(_base_.drops, milestones=[30, 80])
param_scheduler = [drops]
