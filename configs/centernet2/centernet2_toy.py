# A narrow CenterNet2 for the drawn toy set of tools/data/make_toy.py: minutes on a CPU.
# Our own recipe for 240 images. AdamW needs a few hundred iterations, the published schedule tens
# of thousands.
_base_ = [
    '../_base_/models/centernet2_narrow.py',
    '../_base_/datasets/coco_centernet2.py',
    '../_base_/schedules/centernet2_1x.py',
    '../_base_/iteration_runtime.py',
]

# ---- Often modified ----------------------------------------------------------------------
data_root = 'data/toy_coco/'
classes = ('ball', 'ring', 'star', 'cross', 'house')
max_iters = 300
base_lr = 0.002
# ---- Normally not modified ---------------------------------------------------------------
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=len(classes))),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=256), rcnn=dict(num_samples=32)),
)
train_steps = _base_.train_steps
train_steps.resize.update(scales=[(176, 320), (208, 320), (240, 320)])
train_pipeline = list(filter(None, train_steps.values()))
test_steps = _base_.test_steps
test_steps.resize.update(scale=(224, 320))
test_pipeline = list(test_steps.values())
metainfo = dict(classes=classes)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=base_lr, weight_decay=0.01),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, T_max=max_iters, eta_min=0),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(interval=30))
auto_scale_lr = dict(base_batch_size=8)
visualizer = dict(type='DetLocalVisualizer')
