# The narrow CenterNet2 as a face detector, for quick runs. Our own recipe: AdamW, as for
# the drawn sets.
_base_ = [
    '../_base_/models/centernet2_narrow.py',
    '../_base_/datasets/wider_face.py',
    '../_base_/schedules/centernet2_1x.py',
    '../_base_/iteration_runtime.py',
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))
batch_sampler = dict(type='EndlessBatchSampler', by_shape=False)
train_dataloader = dict(batch_size=8, batch_sampler=batch_sampler)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.002, weight_decay=0.01))
auto_scale_lr = dict(base_batch_size=8)
