# CenterNet2-F: one stage after the proposals instead of three, 41.7 AP in the reference.
_base_ = './centernet2_r50_1x.py'
model = dict(roi_head=dict(num_stages=1))
