# A narrow CenterNet2 for drawn images and quick runs: 1/8 of the backbone's channels, 1/4 of the
# others. It trains from scratch, so the norms of the backbone are not frozen as they usually are.
_base_ = './centernet2_r50.py'
model = dict(
    backbone=dict(
        base_channels=8,
        stem_channels=8,
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
    ),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(in_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=64),
    ),
)
