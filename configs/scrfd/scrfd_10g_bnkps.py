# SCRFD-10GF with five keypoints; BatchNorm heads.
_base_ = './scrfd_10g.py'
model = dict(
    bbox_head=dict(
        num_keypoints=5,
        head_module=dict(share_strides=False, norm_cfg=dict(_delete_=True, type='BN')),
    )
)
