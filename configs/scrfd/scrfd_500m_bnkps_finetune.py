# SCRFD-0.5GF with five keypoints, fine-tuned from published weights on your own faces:
#   python tools/train.py configs/scrfd/scrfd_500m_bnkps_finetune.py --data-path DIR --load-from FILE
_base_ = ['./scrfd_500m_bnkps.py', '../_base_/schedules/finetune.py']
# A tenth of the learning rate of the published training, whose last epochs have a hundredth.
optim_wrapper = dict(optimizer=dict(lr=0.001), clip_grad=dict(max_norm=10, norm_type=2))
param_scheduler = _base_.finetune_schedule
train_cfg = _base_.finetune_length
# tools/data/convert_labels.py writes these from any labels.
train_dataloader = dict(batch_size=8, num_workers=2, dataset=dict(ann_file='train/labels.json'))
val_dataloader = dict(dataset=dict(ann_file='val/labels.json'))
test_dataloader = val_dataloader
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=10))
auto_scale_lr = dict(base_batch_size=8)
