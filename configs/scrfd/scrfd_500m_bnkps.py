# SCRFD-0.5GF with five keypoints; BatchNorm heads without scale factors, batch 16 per card.
_base_ = './scrfd_500m.py'
num_keypoints = 5  # per face
model = dict(
    bbox_head=dict(
        num_keypoints=num_keypoints,
        head_module=dict(
            share_strides=False, scale_boxes=False, norm_cfg=dict(_delete_=True, type='BN')
        ),
    )
)
train_dataloader = dict(batch_size=16, num_workers=4)
