# SCRFD-1GF with a separate BatchNorm head for every stride.
_base_ = './scrfd_1g.py'
model = dict(
    bbox_head=dict(
        head_module=dict(share_strides=False, norm_cfg=dict(_delete_=True, type='BN')),
    )
)
