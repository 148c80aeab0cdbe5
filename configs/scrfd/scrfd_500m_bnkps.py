# SCRFD-0.5GF with five keypoints; BatchNorm heads without scale factors, batch 16 per card.
_base_ = './scrfd_500m.py'
model = dict(
    bbox_head=dict(
        num_keypoints=5,
        head_module=dict(
            share_strides=False, scale_boxes=False, norm_cfg=dict(_delete_=True, type='BN')
        ),
    )
)
train_dataloader = dict(batch_size=16, num_workers=4)
