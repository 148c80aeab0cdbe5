# Test-time augmentation with the sizes of the CenterFace references: 0.8, 1, 1.2 and 1.4 of 800.
# The references resize the image and put it on a canvas of 800x800, which crops the edges of the
# two large sizes. Here every size is used completely.
_base_ = './face_tta.py'

# ---- Often modified ----------------------------------------------------------------------
tta_sizes = [
    dict(type='FaceResize', scale=(640, 640), keep_ratio=True),
    dict(type='FaceResize', scale=(800, 800), keep_ratio=True),
    dict(type='FaceResize', scale=(960, 960), keep_ratio=True),
    dict(type='FaceResize', scale=(1120, 1120), keep_ratio=True),
]
# ---- Normally not modified ---------------------------------------------------------------
tta_views = _base_.tta_views
tta_views.sizes = tta_sizes
tta_pipeline = [
    dict(type='LoadFaceImage'),
    dict(type='TestTimeAug', transforms=list(tta_views.values())),
]
