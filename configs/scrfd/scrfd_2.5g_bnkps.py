# SCRFD-2.5GF with five keypoints; BatchNorm heads.
_base_ = './scrfd_2.5g.py'
num_keypoints = 5  # per face
model = dict(
    bbox_head=dict(
        num_keypoints=num_keypoints,
        head_module=dict(share_strides=False, norm_cfg=dict(_delete_=True, type='BN')),
    )
)
